"""F-measure: how well the highest pixels of a map match the pixels of an object."""

from collections.abc import Sequence
from typing import Literal

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._validation import check_choice
from captum_ext.metrics.boxes import given_regions
from captum_ext.metrics.pixel_maps import (
    check_metric_input,
    is_constant,
    rank_maps,
    spatial_maps,
)
from captum_ext.metrics.scoring import ForwardFunc

__all__ = ["f_measure", "precision_and_recall"]


def precision_and_recall(ranks: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Precision and recall of the k highest pixels, for all k.

    Args:
        ranks (Tensor): Rank of each pixel, from 0, (B, ...).
        regions (Tensor): Masks of the object, boolean or probabilities of a hit, in
            the shape of ``ranks``. Recall is NaN where they are empty.

    Returns:
        *tuple[Tensor, Tensor]*: Precision and recall for k = 1 to H*W, (B, H*W) each,
        float64.

    Examples::

        >>> ranks = torch.tensor([[2, 0, 1]])
        >>> precision, recall = precision_and_recall(ranks, torch.tensor([[1, 1, 0]]))
        >>> precision, recall
        (tensor([[1.0000, 0.5000, 0.6667]], dtype=torch.float64),
         tensor([[0.5000, 0.5000, 1.0000]], dtype=torch.float64))
    """
    order = ranks.flatten(1).argsort(1)
    inside = regions.flatten(1).gather(1, order).double()
    hits = inside.cumsum(1)
    k = torch.arange(1, hits.shape[1] + 1)
    return hits / k, hits / hits[:, -1:]


@log_usage()
@torch.no_grad()
def f_measure(
    forward_func: ForwardFunc | None,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    boxes: Sequence[Tensor] | None = None,
    masks: Tensor | None = None,
    variant: Literal["sum", "recall_times_precision"] = "sum",
) -> Tensor:
    r"""How well the highest pixels match the object. Higher is better.

    With P_k and R_k the precision and the recall of the k highest pixels, and F_k their
    harmonic mean, the metric of the paper is

    .. math::
        \sum_{k=1}^{h w} F_k, \quad F_k = \frac{2 P_k R_k}{P_k + R_k},

    with F_k = 0 as long as no pixel hits the object. The sum grows with the number of
    pixels: divide by it to compare images of different sizes. The public code of the
    paper's authors averages R_k P_k over k instead. Pixels are ranked by their signed
    values, equal values in row-major order. A constant map gets the level of chance:
    the expected number of hits in random order.

    Source: A. Kikuchi et al., BOREx: Bayesian-Optimization-Based Refinement of Saliency
    Map for Image- and Video-Classification Models, ACCV 2022, Section 4.

    Args:
        forward_func (Callable, optional): Not called; None is accepted.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W) or video
            (B, C, T, H, W); only their size is used.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels and interpolated to the input's size.
        target (int, tuple, Tensor, or list, optional): Not used. Default: None
        baselines (scalar or Tensor, optional): Not used. Default: None
        additional_forward_args (Any, optional): Not used. Default: None
        boxes (sequence of Tensor, optional): For each example the boxes (N, 4) of the
            explained class, x0 y0 x1 y1 as edges in pixels of the input, valid for all
            frames of a video. Default: None
        masks (Tensor, optional): Boolean masks of the explained class, (B, H, W) or
            (B, T, H, W), instead of boxes. Default: None
        variant (str, optional): "sum" for the paper's sum of F_k, or
            "recall_times_precision" for the mean of R_k P_k. Default: "sum"

    Returns:
        *Tensor*: (B,), float64 on the CPU, in (0, h w] for "sum" and in (0, 1] for
        "recall_times_precision"; NaN without an object.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if not exactly one of ``boxes`` and ``masks`` is given.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> x, boxes = torch.rand(1, 3, 2, 2), [torch.tensor([[0, 0, 1, 2]])]
        >>> maps = torch.tensor([[[[0.9, 0.2], [0.4, 0.3]]]])
        >>> f_measure(None, x, maps, boxes=boxes)
        tensor([3.1333], dtype=torch.float64)
        >>> f_measure(None, x, maps, boxes=boxes, variant="recall_times_precision")
        tensor([0.6667], dtype=torch.float64)
    """
    check_choice("variant", variant, ("sum", "recall_times_precision"))
    x = check_metric_input(inputs, axes=(4, 5))
    maps = spatial_maps(attributions, x)
    ranks = rank_maps(maps)
    regions = given_regions(boxes, masks, ranks.shape).double()
    constant = is_constant(maps)
    regions[constant] = _means(regions[constant])
    P, R = precision_and_recall(ranks, regions)
    if variant == "recall_times_precision":
        return (R * P).mean(1)
    return (2 * P * R / torch.where(P > 0, P + R, 1)).sum(1)


def _means(regions: Tensor) -> Tensor:
    """The mean of each mask in all of its pixels."""
    means = regions.flatten(1).mean(1)
    return means.view(-1, *(1,) * (regions.dim() - 1)).expand_as(regions)
