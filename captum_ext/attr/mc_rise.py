"""MC-RISE: color-wise saliency from random masks."""

from collections.abc import Callable

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import TargetType, TensorOrTupleOfTensorsGeneric
from captum_ext._scores import PerturbationsPerEval
from captum_ext._type_checks import (
    check_callable,
    check_finite,
    check_flags,
    check_tensor,
)
from captum_ext._validation import (
    check_choice,
    check_inputs,
    check_probability,
    check_target,
    one_per_input,
)
from captum_ext.attr.mask_layouts import (
    GridSize,
    Layout,
    cell_layouts,
    check_shared_by_channels,
    mask_layouts,
)
from captum_ext.attr.masked_run import UNBIASED, Sampling
from captum_ext.attr.random_masks import (
    Attributions,
    MaskedInputs,
    RandomMaskAttribution,
    expanded_as,
    stored_as,
)
from captum_ext.masks import MaskLayout, Palette
from captum_ext.masks.layout import mask_shapes

__all__ = ["MCRISE"]


class MCRISE(RandomMaskAttribution):
    r"""Color-wise saliency: the effect on the score of painting a pixel in a color.

    Random masks paint parts of the input in one of K colors each; map k is the
    difference between the mean scores of the masks that paint a pixel in color k and
    of those that keep it,

    .. math::
        S(\lambda, k) &= E[f(i') \mid m(\lambda, k) = 1] \\
                      &\quad - E[f(i') \mid m^{(0)}(\lambda) = 1], \\
        i' &= i\, m^{(0)} + \sum_k c_k\, m(\cdot, k).

    It is positive where color k would raise the score, negative where it would lower
    it.

    Source: Y. Hatakeyama, H. Sakuma, Y. Konishi, K. Suenaga, Visualizing Color-wise
    Saliency of Black-Box Image Classification Models, ACCV 2020; Equation (A.6) and
    Algorithm 1 of the supplement.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it. Its mode is not changed: call ``model.eval()`` first.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> palette = named_palette(["red", "blue"], mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> inputs = torch.randn(1, 3, 32, 32)
        >>> MCRISE(model).attribute(inputs, palette, target=1).shape
        torch.Size([1, 2, 32, 32])
    """

    name = "MC-RISE"

    def __init__(self, forward_func: Callable[..., Tensor]) -> None:
        check_callable("forward_func", forward_func)
        super().__init__(forward_func)

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
        layout: Layout = None,
        mask_probability: float = 0.5,
        estimator: str = "control_variate",
        perturbations_per_eval: PerturbationsPerEval = "auto",
        seed: int = 0,
        input_shaped: bool = False,
        return_std_error: bool = False,
        tolerance: float | None = None,
        rtol: float | None = None,
        show_progress: bool = False,
    ) -> Attributions:
        r"""
        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs (B, ...) to explain. An input
                (B, C, L), (B, C, H, W) or (B, C, T, H, W) is painted by an enlarged
                random grid over all axes after the channel axis; an input (B, F) column
                by column.
            colors (Tensor or Palette or tuple of these): The K colors in the model's
                input space, (K, C) for all examples or (B, K, C) for each example;
                (K, 1) for inputs (B, F). See :func:`~captum_ext.masks.named_palette`
                and :func:`~captum_ext.masks.image_palette`. A tuple with one entry per
                input if ``inputs`` is a tuple.
            target (int, tuple, Tensor, list, or Callable, optional): Output to explain,
                in any of Captum's forms: an int for all examples, a list or 1-D tensor
                of B ints, tuples for outputs of more axes; or a function of the output
                that returns one number per example, or a list of B functions of one
                example's output each (:mod:`captum_ext.targets`). None if
                ``forward_func`` returns one number per example or one per batch.
                Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``. The first axis of a tensor is the batch.
                Default: None
            feature_mask (Tensor or tuple[Tensor, ...], optional): Index of the region
                of each pixel, integers (1 or B, 1 or C, ...), equal for all channels.
                Whole regions are kept or painted, instead of cells of the grid. An
                input whose mask is None in a tuple has columns, or blocks of a grid, as
                regions of its own. Default: None
            n_masks (int, optional): Number of masks, and so of forward passes per
                example; with a tolerance the largest number. Rounded down to an even
                number by the default estimator; the field takes at least 1 + 3 K.
                Default: 2000
            grid_size (int or tuple[int, ...], optional): Number of cells of the random
                grid along each axis. Default: None (7, or fewer along a shorter axis)
            layout (MaskLayout or str, optional): How masks are drawn if not from the
                regions of a ``feature_mask``. "grid" is the paper's grid; "superpixels"
                keeps or paints each of about 70 regions of similar color of an image,
                150 of a video, computed for each example
                (:func:`~captum_ext.masks.superpixels`); "mixed" does so with about 25,
                50 or 100 regions, at random for each mask. Or masks of your own with a
                channel axis of 1
                (:class:`~captum_ext.masks.MaskLayout` says how to write one). At most
                one of ``feature_mask``, ``grid_size`` and ``layout`` may be given,
                except ``grid_size`` with "grid". Default: None ("grid")
            mask_probability (float, optional): Probability that a cell is painted, in
                (0, 1), shared equally by the colors. Default: 0.5
            estimator (str, optional): "control_variate" draws masks in antithetic
                pairs and replaces the part of the scores that is linear in the mask by
                its exact contribution to the maps; "monte_carlo" is the plain average
                of the paper. Both have the same expectation. "field" paints random
                halves of the input in one color at a time; the map of a color is minus
                the field of :class:`~captum_ext.attr.PNRISE` with the color as
                baseline. Default: "control_variate"
            perturbations_per_eval (int or "auto", optional): Number of painted batches
                per call of ``forward_func``, which then receives
                ``perturbations_per_eval * B`` examples. "auto" finds the fastest number
                during the first masks, lowers it when memory runs out, and uses 1 if
                ``forward_func`` returns one number per batch. It changes the maps by
                rounding only. Default: "auto"
            seed (int, optional): Seed of the masks. An example gets the same masks
                in any batch. Default: 0
            input_shaped (bool, optional): Whether the negative mean of the K maps is
                returned in the shape of ``inputs``, as Captum's metrics need it: what
                keeping a pixel adds to the score, compared with painting it in any of
                the colors. Default: False
            return_std_error (bool, optional): Whether the standard error of each value
                is returned as well; of the field, its posterior standard deviation. It
                is reliable from 16 masks on, 16 of the rarest category included.
                Default: False
            tolerance (float, optional): Standard error, in units of the score, at which
                an example is finished: no value, or no cell of the field, has a larger
                one. It is checked after 64 masks, 96 and so on, of the field after 16
                pairs, 24 and so on. Default: None (all masks are used)
            rtol (float, optional): Typical standard error (root mean square over the
                map), in units of the range of the map, at which an example is
                finished. Both tolerances must be met if both are given.
                Default: None
            show_progress (bool, optional): Whether a progress bar over the masks is
                shown. Default: False

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**, or a pair of
            **attributions** and **standard errors** if ``return_std_error``:
            - **attributions** (*Tensor* or *tuple[Tensor, ...]*):
              (B, K, H, W) for images, (B, K, L), (B, K, T, H, W) or (B, K, F) for
              the other inputs, or the shape of ``inputs`` if ``input_shaped``; in the
              dtype and on the device of ``inputs``. B is 1 if ``forward_func`` returns
              one number per batch.
            - **standard errors** (*Tensor* or *tuple[Tensor, ...]*): Standard deviation
              of the maps over seeds, or posterior standard deviation of the fields, in
              the same shape.

        Raises:
            ValueError: If an argument is out of its range, if the colors or the masks
                do not fit the inputs or the target the output, or if scores are NaN or
                infinite.
            TypeError: If an argument is of the wrong type.
        """
        check_flags(input_shaped=input_shaped)
        check_choice("estimator", estimator, (*UNBIASED, "field"))
        tensors = check_inputs(inputs)
        target = check_target(target, len(tensors[0]))
        fills = _check_colors(_unpacked(colors), tensors)
        regions = check_shared_by_channels(feature_mask, tensors)
        if regions is None and layout is None:
            # Colors show which axis holds the channels: no warning is needed.
            layout = "grid"
        layouts = (cell_layouts if estimator == "field" else mask_layouts)(
            tensors, regions, grid_size, layout
        )
        _check_masks_pixels(layouts[0], tensors)
        sampling = Sampling(
            _probabilities(mask_probability, len(fills[0])),
            n_masks,
            estimator,
            seed,
            return_std_error,
            tolerance,
            rtol,
        )
        method = _MeanOverColors(self.forward_func) if input_shaped else self
        return method._estimate(
            inputs,
            MaskedInputs(tensors, fills, target, additional_forward_args),
            layouts,
            sampling,
            perturbations_per_eval,
            show_progress,
        )

    def _contrast(self, means: Tensor) -> Tensor:
        return means[1:] - means[:1]

    def _shape(self, maps: Tensor, tensor: Tensor) -> Tensor:
        """(K, B, 1, ...) to (B, K, ...); inputs (B, F) have no channel axis to drop."""
        if tensor.dim() > 2:
            maps = maps.squeeze(2).expand(-1, -1, *tensor.shape[2:])
        return stored_as(maps.transpose(0, 1), tensor).contiguous()

    def _n_elements(self, tensor: Tensor) -> int:
        return tensor[0].numel() if tensor.dim() < 3 else tensor[0, 0].numel()


class _MeanOverColors(MCRISE):
    """MC-RISE with ``input_shaped``: minus the mean of the K maps."""

    def _contrast(self, means: Tensor) -> Tensor:
        return means[:1] - means[1:].mean(0, keepdim=True)

    def _shape(self, maps: Tensor, tensor: Tensor) -> Tensor:
        return expanded_as(maps, tensor)

    def _n_elements(self, tensor: Tensor) -> int:
        return tensor[0].numel()


def _probabilities(mask_probability: float, n_colors: int) -> tuple[float, ...]:
    """Probabilities that a pixel is kept, and painted in each color."""
    hidden = check_probability("mask_probability", mask_probability)
    return 1 - hidden, *[hidden / n_colors] * n_colors


def _unpacked(
    colors: Tensor | Palette | tuple[Tensor | Palette, ...],
) -> Tensor | tuple[Tensor, ...]:
    """Colors with each palette replaced by its tensor."""
    if isinstance(colors, tuple):
        return tuple(c.colors if isinstance(c, Palette) else c for c in colors)
    return colors.colors if isinstance(colors, Palette) else colors


def _check_colors(
    colors: Tensor | tuple[Tensor, ...], inputs: tuple[Tensor, ...]
) -> list[list[Tensor]]:
    """The K colors of each input, broadcastable to it, in its dtype and device."""
    formatted = []
    for palette, tensor in zip(one_per_input("colors", colors, inputs), inputs):
        check_tensor("colors", palette, "a tensor or a palette")
        width = tensor.shape[1] if tensor.dim() > 2 else 1
        each = palette.dim() == 3 and len(palette) in (1, len(tensor))
        if palette.shape[-1:] != (width,) or not (palette.dim() == 2 or each):
            raise ValueError(
                f"colors must have shape (K, {width}) or ({len(tensor)}, K, {width}) "
                f"for inputs of shape {tuple(tensor.shape)}, got "
                f"{tuple(palette.shape)}."
            )
        if palette.shape[-2] == 0:
            raise ValueError("colors must hold at least one color, got none.")
        check_finite("colors", palette)
        trailing = (1,) * (tensor.dim() - 2)
        palette = palette.to(tensor).reshape(*palette.shape, *trailing)
        formatted.append(list(palette.unbind(-2 - len(trailing))))
    if len({len(fills) for fills in formatted}) != 1:
        raise ValueError(
            f"colors must hold the same number for all inputs, got "
            f"{[len(fills) for fills in formatted]}."
        )
    return formatted


def _check_masks_pixels(layout: MaskLayout, inputs: tuple[Tensor, ...]) -> None:
    """Check that channels share their masks: a color is painted on whole pixels."""
    shapes = mask_shapes(layout)
    if any(x.dim() > 2 and shape[1] > 1 for shape, x in zip(shapes, inputs)):
        raise ValueError(
            f"layout must give masks with a channel axis of 1, got masks of shape "
            f"{', '.join(map(str, shapes))}."
        )
