"""PN-RISE: positive and negative saliency from random masks."""

from collections.abc import Callable

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
)
from captum_ext._scores import PerturbationsPerEval
from captum_ext._type_checks import check_callable
from captum_ext._validation import (
    check_baselines,
    check_choice,
    check_inputs,
    check_probability,
    check_target,
    check_unused,
)
from captum_ext.attr.mask_layouts import GridSize, Layout, cell_layouts, mask_layouts
from captum_ext.attr.masked_run import UNBIASED, Sampling
from captum_ext.attr.prior_maps import Prior, scaled_prior
from captum_ext.attr.random_masks import (
    Attributions,
    MaskedInputs,
    RandomMaskAttribution,
)

__all__ = ["PNRISE"]


class PNRISE(RandomMaskAttribution):
    r"""Positive and negative saliency: what keeping a pixel adds to the score.

    Random masks m hide parts of the input; the map is the difference between the mean
    scores of the masks that keep a pixel and of those that hide it,

    .. math::
        S(\lambda) &= E[f(i \odot m) \mid m(\lambda) = 1] \\
                   &\quad - E[f(i \odot m) \mid m(\lambda) = 0] \\
                   &= E\Big[\frac{m(\lambda) - p}{p (1 - p)} f(i \odot m)\Big].

    It is positive where the pixel supports the score, negative where it lowers it, and
    0 where the model ignores it (Proposition 1), in units of the score.

    With ``estimator="field"`` the map is that of a Gaussian process on cells of the
    input, which is exact for models whose effects are those of single cells and of
    pairs. It observes random halves and their complements. A cell gets its Shapley
    value, shared equally by its elements, so that the map sums to f(i) - f(baselines).

    Source: Y. Hatakeyama, H. Sakuma, Y. Konishi, K. Suenaga, Visualizing Color-wise
    Saliency of Black-Box Image Classification Models, ACCV 2020; Equation (A.4) of
    the supplement.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it. Its mode is not changed: call ``model.eval()`` first.

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

    def __init__(self, forward_func: Callable[..., Tensor]) -> None:
        check_callable("forward_func", forward_func)
        super().__init__(forward_func)

    @log_usage()
    @torch.no_grad()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object = None,
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        n_masks: int | None = None,
        grid_size: GridSize = None,
        layout: Layout = None,
        keep_probability: float = 0.5,
        estimator: str = "control_variate",
        prior: Prior | None = None,
        perturbations_per_eval: PerturbationsPerEval = "auto",
        seed: int = 0,
        return_std_error: bool = False,
        tolerance: float | None = None,
        rtol: float | None = None,
        show_progress: bool = False,
    ) -> Attributions:
        r"""Attribute one output to the inputs, by n_masks forward passes per example.

        A value is high where keeping the pixel raises the score; the class docstring
        says what it means and which value means no influence. The same inputs and seed
        give the same map.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs (B, ...) to explain. An input
                (B, C, L), (B, C, H, W) or (B, C, T, H, W) is masked by an enlarged
                random grid over all axes after the channel axis; an input (B, F) column
                by column. In sequences (B, L, C) the L axis would count as channels:
                pass :func:`~captum_ext.masks.sequence_mask` as ``feature_mask``, or
                "grid" as ``layout`` for series (B, C, L); without either there is a
                warning.
            baselines (scalar, Tensor, tuple of scalar, or Tensor, optional):
                Replacement of hidden parts, broadcastable to ``inputs``.
                Default: None (zero)
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
                of each element, integers (1 or B, ...) broadcastable to ``inputs``,
                superpixels for example. Whole regions are kept or hidden, instead of
                cells of the grid. An input whose mask is None in a tuple has columns,
                or blocks of a grid, as regions of its own. Default: None
            n_masks (int, optional): Number of masks, and so of forward passes per
                example; with ``tolerance`` or ``rtol`` the largest number. Rounded down
                to an even number by the estimators that draw pairs; the field takes at
                least 4. Default: None (1000, or 102 for the field)
            grid_size (int or tuple[int, ...], optional): Number of cells of the random
                grid along each axis. Default: None (7, or 28 for the field of an image;
                fewer along a shorter axis)
            layout (MaskLayout or str, optional): How masks are drawn if not from the
                regions of a ``feature_mask``. "grid" is the paper's grid; "superpixels"
                keeps or hides each of about 70 regions of similar color of an image,
                150 of a video, computed for each example
                (:func:`~captum_ext.masks.superpixels`); "mixed" does so with about 25,
                50 or 100 regions, at random for each mask. Or masks of your own
                (:class:`~captum_ext.masks.MaskLayout` says how to write one). At most
                one of ``feature_mask``, ``grid_size`` and ``layout`` may be given,
                except ``grid_size`` with "grid". Default: None ("grid")
            keep_probability (float, optional): Probability p that a cell is kept, in
                (0, 1). Default: 0.5
            estimator (str, optional): "control_variate" draws masks in antithetic
                pairs (complements for p = 1/2) and replaces the part of the scores
                that is linear in the mask by its exact contribution to the map;
                "monte_carlo" is the plain average of the paper. Both have the same
                expectation. "field" is a Gaussian process on the cells: the map of the
                least error rather than without bias.
                Default: "control_variate"
            prior (Tensor, tuple[Tensor, ...], or Callable, optional): For the field:
                maps (B, any, ...) with as many axes as ``inputs``, of any size and
                scale, as Captum's attributions and ours return them, or the
                ``attribute`` method of one, which is called with ``inputs`` and
                ``target``. Its scale is fitted. Default: None (zero)
            perturbations_per_eval (int or "auto", optional): Number of masked batches
                per call of ``forward_func``, which then receives
                ``perturbations_per_eval * B`` examples. "auto" finds the fastest number
                during the first masks, lowers it when memory runs out, and uses 1 if
                ``forward_func`` returns one number per batch. It changes the map by
                rounding only. Default: "auto"
            seed (int, optional): Seed of the masks. An example gets the same masks
                in any batch. Default: 0
            return_std_error (bool, optional): Whether the standard error of each pixel
                is returned as well; of the field, its posterior standard deviation. It
                is reliable from 16 masks on, 16 of the rarest category included.
                Default: False
            tolerance (float, optional): Standard error, in units of the score, at which
                an example is finished: no pixel, or no cell of the field, has a larger
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
              In the shape, dtype and on the device of ``inputs``, equal for all
              channels of a pixel; (1, ...) if ``forward_func`` returns one number
              per batch. Float32 for integer inputs.
            - **standard errors** (*Tensor* or *tuple[Tensor, ...]*): Standard deviation
              of the map over seeds, or posterior standard deviation of the field, in
              the same shape.

        Raises:
            ValueError: If an argument is out of its range, if the masks do not fit the
                inputs or the target the output, or if scores are NaN or infinite.
            TypeError: If an argument is of the wrong type.

        Examples::

            >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
            >>> x = torch.rand(2, 3, 8, 8)
            >>> maps, errors = PNRISE(model).attribute(
            ...     x, target=[0, 3], n_masks=100, return_std_error=True
            ... )
            >>> maps.shape == errors.shape == x.shape
            True
        """
        keep_probability = check_probability("keep_probability", keep_probability)
        check_choice("estimator", estimator, (*UNBIASED, "field"))
        tensors = check_inputs(inputs)
        target = check_target(target, len(tensors[0]))
        fills = [(value,) for value in check_baselines(baselines, tensors)]
        is_field = estimator == "field"
        sampling = Sampling(
            (keep_probability, 1 - keep_probability),
            (102 if is_field else 1000) if n_masks is None else n_masks,
            estimator,
            seed,
            return_std_error,
            tolerance,
            rtol,
        )
        if not is_field:
            check_unused("estimator", estimator, {"prior": prior})
        layouts = (cell_layouts if is_field else mask_layouts)(
            tensors, feature_mask, grid_size, layout
        )
        priors = scaled_prior(prior, inputs, target)
        masked = MaskedInputs(tensors, fills, target, additional_forward_args, priors)
        return self._estimate(
            inputs, masked, layouts, sampling, perturbations_per_eval, show_progress
        )

    def _contrast(self, means: Tensor) -> Tensor:
        return means[:1] - means[1:]
