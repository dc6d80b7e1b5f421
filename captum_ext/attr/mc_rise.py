"""PN-RISE and MC-RISE: signed and color-wise saliency from random masks."""

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import TargetType, TensorOrTupleOfTensorsGeneric
from captum_ext._scores import PerturbationsPerEval
from captum_ext._validation import (
    check_colors,
    check_inputs,
    check_probability,
    check_shared_by_channels,
)
from captum_ext.attr.random_masks import (
    Attributions,
    GridSize,
    MaskSettings,
    RandomMaskAttribution,
    expanded_as,
    stored_as,
)
from captum_ext.attr.rise import RISE
from captum_ext.masks import Palette

__all__ = ["MCRISE", "PNRISE"]


class PNRISE(RISE):
    r"""Positive and negative saliency: what a pixel adds to the score, or takes away.

    Random masks m hide parts of the input; the map compares the masks that keep a
    pixel with those that hide it,

    .. math::
        S(\lambda) = E[f(i \odot m) \mid m(\lambda) = 1]
                   - E[f(i \odot m) \mid m(\lambda) = 0]
                   = E\Big[\frac{m(\lambda) - p}{p (1 - p)} f(i \odot m)\Big].

    It is positive where the pixel supports the score, negative where it speaks
    against it, and 0 where the model ignores it (Proposition 1), in units of the
    score.

    Source: Y. Hatakeyama, H. Sakuma, Y. Konishi, K. Suenaga, Visualizing Color-wise
    Saliency of Black-Box Image Classification Models, ACCV 2020; Equation (A.4) of
    the supplement.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it. It is called in the mode in which it is: eval mode, for
            maps that can be reproduced.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> pn_rise = PNRISE(model)
        >>> attribution, error = pn_rise.attribute(
        ...     torch.rand(1, 3, 32, 32), target=1, return_std_error=True
        ... )
        >>> attribution.shape
        torch.Size([1, 3, 32, 32])
    """

    name = "PN-RISE"

    @staticmethod
    def _contrast(means: Tensor) -> Tensor:
        return means[:1] - means[1:]


class MCRISE(RandomMaskAttribution):
    r"""Color-wise saliency: what painting a pixel in a color does to the score.

    Random masks paint parts of the input in one of K colors each; map k compares the
    masks that paint a pixel in color k with those that keep it,

    .. math::
        S(\lambda, k) = E[f(i') \mid m(\lambda, k) = 1]
                      - E[f(i') \mid m^{(0)}(\lambda) = 1], \quad
        i' = i\, m^{(0)} + \sum_k c_k\, m(\cdot, k).

    It is positive where color k would raise the score, negative where it would lower
    it.

    Source: Y. Hatakeyama, H. Sakuma, Y. Konishi, K. Suenaga, Visualizing Color-wise
    Saliency of Black-Box Image Classification Models, ACCV 2020; Equation (A.6) and
    Algorithm 1 of the supplement.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it. It is called in the mode in which it is: eval mode, for
            maps that can be reproduced.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> palette = named_palette(["red", "blue"], mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> inputs = torch.randn(1, 3, 32, 32)
        >>> MCRISE(model).attribute(inputs, palette, target=1).shape
        torch.Size([1, 2, 32, 32])
    """

    name = "MC-RISE"

    @log_usage()
    @torch.no_grad()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        colors: Tensor | Palette | tuple[Tensor | Palette, ...],
        target: TargetType = None,
        additional_forward_args: object = None,
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        n_masks: int = 2000,
        grid_size: GridSize = None,
        mask_probability: float = 0.5,
        estimator: str = "control_variate",
        perturbations_per_eval: PerturbationsPerEval = "auto",
        seed: int = 0,
        input_shaped: bool = False,
        return_std_error: bool = False,
        tolerance: float | None = None,
        show_progress: bool = False,
    ) -> Attributions:
        r"""
        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs (B, ...) to explain. An input
                (B, C, L), (B, C, H, W) or (B, C, T, H, W) is painted by an enlarged
                random grid over all axes behind the channels; an input (B, F) column
                by column. Embeddings (B, T, E) are read as channels T: give
                ``feature_mask`` to mask tokens.
            colors (Tensor or Palette or tuple of these): The K colors in the
                model's input space, (K, C) for all examples or (B, K, C) for each its
                own; (K, 1) for inputs (B, F). :func:`~captum_ext.masks.named_palette`
                and :func:`~captum_ext.masks.image_palette` make them. A tuple with
                one tensor an input if ``inputs`` is a tuple.
            target (int, tuple, Tensor, or list, optional): Output to explain, in any
                of Captum's forms: an int for all examples, a list or 1-D tensor of B
                ints, tuples for outputs of more axes. None if ``forward_func`` returns
                one number an example or one a batch. Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``. The first axis of a tensor is the batch.
                Default: None
            feature_mask (Tensor or tuple[Tensor, ...], optional): Index of the region
                that each pixel belongs to, integers (1 or B, 1 or C, ...), equal for
                all channels. Whole regions are kept or painted, in place of the grid.
                Default: None
            n_masks (int, optional): Number of masks, and so of forward passes an
                example; with ``tolerance`` the most that are spent. Rounded down to an
                even number by the default estimator. Default: 2000
            grid_size (int or tuple[int, ...], optional): Cells of the random grid
                along each axis. Default: None (7, or fewer along a shorter axis)
            mask_probability (float, optional): Probability that a cell is painted, in
                (0, 1); every color has the same share of it. Default: 0.5
            estimator (str, optional): "control_variate" draws masks in antithetic
                pairs and replaces what a linear function of the mask explains of the
                scores by its exact share of the maps; "monte_carlo" is the plain
                average of the paper. Both have the same expectation. Default:
                "control_variate"
            perturbations_per_eval (int or "auto", optional): Painted batches in one
                call of ``forward_func``, which then sees ``perturbations_per_eval *
                B`` examples. "auto" finds the fastest number during the first masks,
                lowers it when memory runs out, and uses 1 where ``forward_func``
                returns one number a batch. It changes the map by rounding only.
                Default: "auto"
            seed (int, optional): Seed of the masks. An example gets the same masks
                in any batch. Default: 0
            input_shaped (bool, optional): Whether, in place of the K maps, their
                negative mean is returned in the shape of ``inputs``: what keeping a
                pixel adds to the score, compared with painting it in any of the
                colors. Captum's metrics need that shape. Default: False
            return_std_error (bool, optional): Whether the standard error of every
                value is returned as well. It needs some masks to be reliable: 16 at
                least, and as many of the rarest kind. Default: False
            tolerance (float, optional): Stop as soon as no value of an example has a
                larger standard error than this, in units of the score. It is looked
                at after 64 masks, 96 and so on. Default: None (spend all masks)
            show_progress (bool, optional): Whether a progress bar over the masks is
                shown. Default: False

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**, or a pair of
            **attributions** and **standard errors** if ``return_std_error``:
            - **attributions** (*Tensor* or *tuple[Tensor, ...]*):
              (B, K, H, W) for images, (B, K, L), (B, K, T, H, W) or (B, K, F) for
              the other inputs, or the shape of ``inputs`` if ``input_shaped``; in the
              dtype and on the device of ``inputs``. B is 1 if ``forward_func`` returns
              one number a batch.
            - **standard errors** (*Tensor* or *tuple[Tensor, ...]*): In the same
              shape; the standard deviation of the maps over seeds.

        Raises:
            ValueError: If an argument is out of its range, if the colors have another
                width than the inputs, if the target does not fit the output, or if
                scores are NaN or infinite.
            TypeError: If an argument is of the wrong type.
        """
        check_probability("mask_probability", mask_probability)
        tensors = check_inputs(inputs)
        fills = check_colors(_unpacked(colors), tensors)
        settings = MaskSettings(
            target=target,
            additional_forward_args=additional_forward_args,
            feature_mask=check_shared_by_channels(feature_mask, tensors),
            n_masks=n_masks,
            grid_size=grid_size,
            estimator=estimator,
            perturbations_per_eval=perturbations_per_eval,
            seed=seed,
            return_std_error=return_std_error,
            tolerance=tolerance,
            show_progress=show_progress,
        )
        n_colors = len(fills[0])
        painted = (mask_probability / n_colors,) * n_colors
        return self._estimate(
            inputs,
            fills,
            (1 - mask_probability, *painted),
            self._mean_contrast if input_shaped else self._contrast,
            expanded_as if input_shaped else _colors_second,
            settings,
        )

    @staticmethod
    def _contrast(means: Tensor) -> Tensor:
        return means[1:] - means[:1]

    @staticmethod
    def _mean_contrast(means: Tensor) -> Tensor:
        return means[:1] - means[1:].mean(0, keepdim=True)


def _unpacked(
    colors: Tensor | Palette | tuple[Tensor | Palette, ...],
) -> Tensor | tuple[Tensor, ...]:
    """Palettes as the tensors of their colors."""
    if isinstance(colors, tuple):
        return tuple(c.colors if isinstance(c, Palette) else c for c in colors)
    return colors.colors if isinstance(colors, Palette) else colors


def _colors_second(maps: Tensor, tensor: Tensor) -> Tensor:
    """(K, B, 1, ...) to (B, K, ...); inputs (B, F) have no channels to drop."""
    if tensor.dim() > 2:
        maps = maps.squeeze(2)
    return stored_as(maps.transpose(0, 1), tensor).contiguous()
