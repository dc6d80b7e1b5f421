"""Boxes x0 y0 x1 y1 in pixels: regions they cover, the box round a map, overlap.

Coordinates are edges, so that (0, 0, W, H) is the whole image, and a pixel belongs to
every box that it overlaps.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from captum_ext._validation import (
    check_boxes,
    check_choice,
    check_positive,
    check_region_masks,
)
from captum_ext.metrics.maps import unit_maps

__all__ = [
    "Thresholding",
    "box_regions",
    "center_box",
    "given_regions",
    "max_box",
    "salient_boxes",
    "tightest_box",
]

Thresholding = Literal["value", "mean"]


def box_regions(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Pixels that lie in any of the boxes, wholly or in part.

    Args:
        boxes (Tensor): (N, 4).
        size (sequence of int): H and W.

    Returns:
        *Tensor*: (H, W), bool.

    Examples::

        >>> box_regions(torch.tensor([[0.0, 0.0, 1.5, 1.0]]), (2, 3)).int()
        tensor([[1, 1, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    height, width = size
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    columns, rows = torch.arange(width), torch.arange(height)
    across = (x0 < columns + 1) & (x1 > columns)
    down = (y0 < rows + 1) & (y1 > rows)
    return (down[:, :, None] & across[:, None, :]).any(0)


def given_regions(
    boxes: Sequence[Tensor] | None, masks: Tensor | None, shape: Sequence[int]
) -> Tensor:
    """What was annotated, as boxes or as masks, as one mask an example.

    Args:
        boxes (sequence of Tensor, optional): B tensors (N, 4); in a video they hold
            for all frames.
        masks (Tensor, optional): Bool, in ``shape``.
        shape (sequence of int): (B, H, W) or (B, T, H, W).

    Returns:
        *Tensor*: In ``shape``, bool on the CPU.

    Raises:
        ValueError: If not exactly one is given, shapes do not fit, or an example has
            no pixel.
        TypeError: If ``masks`` is no tensor of bool.
    """
    if (boxes is None) == (masks is None):
        raise ValueError(
            f"boxes or masks must be given, got {'none' if boxes is None else 'both'}."
        )
    if masks is not None:
        return check_region_masks(masks, shape)
    assert boxes is not None
    size = shape[-2:]
    regions = [box_regions(each, size) for each in check_boxes(boxes, shape[0])]
    outside = [i for i, region in enumerate(regions) if not region.any()]
    if outside:
        raise ValueError(
            f"boxes must overlap the image of {tuple(size)} pixels, got none that "
            f"does for examples {outside}."
        )
    stacked = torch.stack(regions).view(len(regions), *(1,) * (len(shape) - 3), *size)
    return stacked.expand(*shape)


def tightest_box(region: Tensor) -> Tensor:
    """The smallest box that holds a region.

    Args:
        region (Tensor): Pixels that belong to it, at least one, (H, W), bool.

    Returns:
        *Tensor*: x0 y0 x1 y1, (4,), int64.

    Examples::

        >>> tightest_box(torch.tensor([[False, True, False], [False, False, True]]))
        tensor([1, 0, 3, 2])
    """
    pixels = region.nonzero().flip(1)
    return torch.cat([pixels.amin(0), pixels.amax(0) + 1])


def salient_boxes(maps: Tensor, threshold: float, thresholding: Thresholding) -> Tensor:
    """The tightest box round what is left of each map above a threshold.

    Negative values count as zero. A map without a positive value singles out nothing,
    and its box is the whole image.

    Args:
        maps (Tensor): S, (B, H, W).
        threshold (float): The share of the reference that a pixel has to reach.
        thresholding (str): The reference: "value" is the maximum of the map, "mean"
            its mean.

    Returns:
        *Tensor*: x0 y0 x1 y1, (B, 4), int64.

    Raises:
        ValueError: If the threshold is not positive or leaves no pixel of a map.
        TypeError: If the threshold is no number.

    Examples::

        >>> maps = torch.tensor([[[0.1, 0.6, 1.0], [0.0, 0.4, -2.0]]])
        >>> salient_boxes(maps, 0.5, "value")
        tensor([[1, 0, 3, 1]])
    """
    check_choice("thresholding", thresholding, ("value", "mean"))
    check_positive("threshold", threshold)
    S = unit_maps(maps)
    reference = S.mean((1, 2)) if thresholding == "mean" else S.amax((1, 2))
    regions = S >= threshold * reference[:, None, None]
    empty = [i for i, region in enumerate(regions) if not region.any()]
    if empty:
        raise ValueError(
            f"threshold must leave a pixel of every map, got {threshold} of the "
            f"{thresholding}, which leaves none for examples {empty}."
        )
    return torch.stack(list(map(tightest_box, regions)))


def center_box(inputs: Tensor) -> Tensor:
    """The baseline that ignores the image: a centered box of half its area, as a map.

    Args:
        inputs (Tensor): Images (B, C, H, W).

    Returns:
        *Tensor*: 1 in the box and 0 outside, (B, 1, H, W), to be measured in place of
        attributions.

    Examples::

        >>> center_box(torch.rand(1, 3, 224, 224)).sum() / 224**2
        tensor(0.4975)
    """
    height, width = inputs.shape[-2:]
    top, left = (round(side * (1 - math.sqrt(0.5)) / 2) for side in (height, width))
    maps = torch.zeros_like(max_box(inputs))
    maps[..., top : height - top, left : width - left] = 1
    return maps


def max_box(inputs: Tensor) -> Tensor:
    """The baseline that names everything: the whole image, as a map.

    Args:
        inputs (Tensor): Images (B, C, H, W).

    Returns:
        *Tensor*: 1 everywhere, (B, 1, H, W), to be measured in place of attributions.

    Examples::

        >>> max_box(torch.rand(4, 3, 8, 8)).shape
        torch.Size([4, 1, 8, 8])
    """
    return torch.ones_like(inputs[:, :1])
