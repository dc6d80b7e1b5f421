"""Relevance mass and rank accuracy: how much of a map lies on the object."""

from collections.abc import Sequence

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext.metrics.boxes import given_regions
from captum_ext.metrics.pixel_maps import check_metric_input, spatial_maps
from captum_ext.metrics.scoring import ForwardFunc

__all__ = ["mass_inside", "rank_inside", "relevance_mass", "relevance_rank"]


def mass_inside(maps: Tensor, regions: Tensor) -> Tensor:
    """Share of the positive values of maps that lies in a region.

    Args:
        maps (Tensor): Maps R, (B, ...).
        regions (Tensor): Boolean masks G in the shape of ``maps``.

    Returns:
        *Tensor*: Shares (B,); NaN for an empty region or a map without positive values.

    Examples::

        >>> mass_inside(torch.tensor([[3.0, 1.0, -5.0]]), torch.tensor([[1, 0, 1]]))
        tensor([0.7500])
    """
    positive, inside = maps.clamp_min(0).flatten(1), regions.flatten(1).to(maps)
    share = (positive * inside).sum(1) / positive.sum(1)
    return share.masked_fill(inside.sum(1) == 0, torch.nan)


def rank_inside(maps: Tensor, regions: Tensor) -> Tensor:
    """Share of the K highest pixels that lie in a region of K pixels.

    Of pixels equal to the K-th highest, those in the region count in proportion: the
    mean over all orders of equal pixels.

    Args:
        maps (Tensor): Maps R, (B, ...).
        regions (Tensor): Boolean masks G in the shape of ``maps``.

    Returns:
        *Tensor*: Shares (B,); NaN for an empty region.

    Examples::

        >>> region = torch.tensor([[1, 1, 0, 0]])
        >>> rank_inside(torch.tensor([[0.9, 0.2, 0.4, -1.0]]), region)
        tensor([0.5000])
        >>> rank_inside(torch.tensor([[0.9, 0.4, 0.4, 0.4]]), region)
        tensor([0.6667])
    """
    values, inside = maps.flatten(1), regions.flatten(1).to(maps)
    K = inside.sum(1, keepdim=True)
    highest = values.sort(dim=1, descending=True).values
    least = highest.gather(1, K.long().sub(1).clamp_min(0))
    above, equal = (values > least).to(maps), (values == least).to(maps)
    left = (K - above.sum(1, keepdim=True)) / equal.sum(1, keepdim=True)
    return ((above + left * equal) * inside).sum(1) / K[:, 0]


@log_usage()
@torch.no_grad()
def relevance_mass(
    forward_func: ForwardFunc | None,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    boxes: Sequence[Tensor] | None = None,
    masks: Tensor | None = None,
) -> Tensor:
    r"""Share of the positive relevance that lies on the object. Higher is better.

    For the map R and the pixels G of the object,

    .. math::
        \frac{\sum_{\lambda \in G} \max(R_\lambda, 0)}{\sum_\lambda \max(R_\lambda, 0)}.

    A random map and a constant positive one get the object's share of the image, a map
    that is positive only on the object gets 1.

    Source: L. Arras, A. Osman, W. Samek, CLEVR-XAI: A Benchmark Dataset for the Ground
    Truth Evaluation of Neural Network Explanations, Information Fusion 2022, Relevance
    Mass Accuracy.

    Args:
        forward_func (Callable, optional): Not called; None is accepted.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W) or video
            (B, C, T, H, W); only their size is used.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels, interpolated to the input's size, and clipped
            at zero.
        target (int, tuple, Tensor, or list, optional): Not used. Default: None
        baselines (scalar or Tensor, optional): Not used. Default: None
        additional_forward_args (Any, optional): Not used. Default: None
        boxes (sequence of Tensor, optional): For each example the boxes (N, 4) of the
            explained class, x0 y0 x1 y1 as edges in pixels of the input, valid for all
            frames of a video. Default: None
        masks (Tensor, optional): Boolean masks of the explained class, (B, H, W) or
            (B, T, H, W), instead of boxes. Default: None

    Returns:
        *Tensor*: (B,), float64 on the CPU, in [0, 1]; NaN for a map without positive
        values and without an object.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if not exactly one of ``boxes`` and ``masks`` is given.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> x, boxes = torch.rand(1, 3, 2, 2), [torch.tensor([[0, 0, 1, 2]])]
        >>> maps = torch.tensor([[[[0.6, 0.2], [0.0, -3.0]]]])
        >>> relevance_mass(None, x, maps, boxes=boxes)
        tensor([0.7500], dtype=torch.float64)
    """
    return mass_inside(*_maps_and_regions(inputs, attributions, boxes, masks))


@log_usage()
@torch.no_grad()
def relevance_rank(
    forward_func: ForwardFunc | None,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    boxes: Sequence[Tensor] | None = None,
    masks: Tensor | None = None,
) -> Tensor:
    r"""Share of the highest pixels that lie on the object. Higher is better.

    As many of the highest pixels of the map R are taken as the object G has:

    .. math::
        \frac{|\mathrm{top}_K(R) \cap G|}{K}, \quad K = |G|.

    Equal pixels count in proportion. A random map and a constant one get the object's
    share of the image, a map that is highest on the object gets 1.

    Source: L. Arras, A. Osman, W. Samek, CLEVR-XAI: A Benchmark Dataset for the Ground
    Truth Evaluation of Neural Network Explanations, Information Fusion 2022, Relevance
    Rank Accuracy.

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

    Returns:
        *Tensor*: (B,), float64 on the CPU, in [0, 1]; NaN without an object.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if not exactly one of ``boxes`` and ``masks`` is given.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> x, boxes = torch.rand(1, 3, 2, 2), [torch.tensor([[0, 0, 1, 2]])]
        >>> maps = torch.tensor([[[[0.6, 0.2], [0.0, -3.0]]]])
        >>> relevance_rank(None, x, maps, boxes=boxes)
        tensor([0.5000], dtype=torch.float64)
    """
    return rank_inside(*_maps_and_regions(inputs, attributions, boxes, masks))


def _maps_and_regions(
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    boxes: Sequence[Tensor] | None,
    masks: Tensor | None,
) -> tuple[Tensor, Tensor]:
    x = check_metric_input(inputs, axes=(4, 5))
    maps = spatial_maps(attributions, x)
    return maps, given_regions(boxes, masks, maps.shape)
