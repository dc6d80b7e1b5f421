"""Boxes x0 y0 x1 y1 in pixels: the regions they cover and the box around a map.

Coordinates are edges: (0, 0, W, H) is the whole image. A pixel belongs to every box
that it overlaps.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from captum_ext._type_checks import check_sequence, check_tensor, shown
from captum_ext._validation import check_choice, check_positive
from captum_ext.metrics.pixel_maps import (
    check_masks,
    is_constant,
    spatial_maps,
    unit_maps,
)

__all__ = [
    "Thresholding",
    "attributed_boxes",
    "box_regions",
    "center_box",
    "check_boxes",
    "given_regions",
    "max_box",
    "salient_boxes",
    "tightest_boxes",
]

Thresholding = Literal["value", "mean", "mask"]


def check_boxes(
    boxes: Sequence[Tensor], n_examples: int, name: str = "boxes"
) -> list[Tensor]:
    """Boxes in float64 on the CPU, checked to be valid.

    Args:
        boxes (sequence of Tensor): For each example the boxes x0 y0 x1 y1 in pixels,
            (N, 4); none, (0, 4), for an image without the object.
        n_examples (int): Number of examples.
        name (str, optional): Name of the argument. Default: "boxes"

    Returns:
        *list[Tensor]*: One tensor (N, 4) per example.

    Raises:
        ValueError: If there are not ``n_examples`` tensors (N, 4), or if a box is empty
            or not finite.
    """
    if isinstance(boxes, Tensor):
        check_tensor(name, boxes)
    given = check_sequence(name, boxes, "tensors (N, 4)")
    if len(given) != n_examples:
        raise ValueError(
            f"{name} must hold one tensor (N, 4) for each of the {n_examples} "
            f"examples, got {len(given)}."
        )
    formatted = []
    for i, each in enumerate(given):
        table = _table(name, each)
        if table.shape == (0,):
            table = table.view(0, 4)
        if table.dim() != 2 or table.shape[1] != 4:
            raise ValueError(
                f"{name} must be tensors (N, 4), got shape {tuple(table.shape)} for "
                f"example {i}."
            )
        # Written so that NaN fails.
        if not (table[:, :2] < table[:, 2:]).all() or table.isinf().any():
            raise ValueError(
                f"{name} must be finite x0 < x1 and y0 < y1, got {table.tolist()} for "
                f"example {i}."
            )
        formatted.append(table)
    return formatted


def _table(name: str, boxes: object) -> Tensor:
    """Boxes in float64 on the CPU, checked to hold real numbers."""
    try:
        table = torch.as_tensor(boxes)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(
            f"{name} must hold tensors (N, 4), got {shown(boxes)}."
        ) from None
    return check_tensor(name, table).detach().cpu().double()


def box_regions(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Pixels covered by any of the boxes, wholly or in part.

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
    """Annotated boxes or masks as one mask per example.

    Args:
        boxes (sequence of Tensor, optional): B tensors (N, 4), valid for all frames of
            a video.
        masks (Tensor, optional): Boolean masks of shape ``shape``.
        shape (sequence of int): (B, H, W) or (B, T, H, W).

    Returns:
        *Tensor*: Boolean masks of shape ``shape`` on the CPU, empty for an image
        without the object.

    Raises:
        ValueError: If not exactly one of the two is given, if shapes do not match, or
            if all boxes of an example lie outside of the image.
        TypeError: If ``masks`` is not a boolean tensor.
    """
    if (boxes is None) == (masks is None):
        raise ValueError(
            f"boxes or masks must be given, got "
            f"{'neither' if boxes is None else 'both'}."
        )
    if masks is not None:
        return _check_region_masks(masks, shape)
    assert boxes is not None
    if len(shape) < 3:
        raise ValueError(
            f"boxes must be those of images or video, got boxes for sequences of "
            f"length {shape[1]}: pass masks (B, L)."
        )
    size = shape[-2:]
    tables = check_boxes(boxes, shape[0])
    regions = [box_regions(each, size) for each in tables]
    outside = [
        i for i, region in enumerate(regions) if len(tables[i]) and not region.any()
    ]
    if outside:
        raise ValueError(
            f"boxes must overlap the image of {tuple(size)} pixels, got none that do "
            f"for examples {outside}."
        )
    stacked = torch.stack(regions).view(len(regions), *(1,) * (len(shape) - 3), *size)
    return stacked.expand(*shape)


def _check_region_masks(masks: Tensor, shape: Sequence[int]) -> Tensor:
    """Boolean masks (B, ...) on the CPU."""
    check_tensor("masks", masks, "a boolean tensor")
    if masks.dtype != torch.bool:
        raise TypeError(f"masks must be a boolean tensor, got {masks.dtype}.")
    if masks.shape != torch.Size(shape):
        raise ValueError(
            f"masks must have shape {tuple(shape)}, got {tuple(masks.shape)}."
        )
    return masks.cpu()


def tightest_boxes(regions: Tensor) -> Tensor:
    """The smallest box that contains each region.

    Args:
        regions (Tensor): Boolean masks (B, H, W) with at least one pixel each.

    Returns:
        *Tensor*: x0 y0 x1 y1, (B, 4), int64.

    Examples::

        >>> tightest_boxes(torch.tensor([[[False, True, False], [False, False, True]]]))
        tensor([[1, 0, 3, 2]])
    """
    from torchvision.ops import masks_to_boxes

    return masks_to_boxes(regions).long() + torch.tensor([0, 0, 1, 1])


def attributed_boxes(
    attributions: Tensor | tuple[Tensor, ...],
    inputs: Tensor,
    threshold: float,
    thresholding: Thresholding,
) -> Tensor:
    """The tightest box around the pixels of each attribution that reach a threshold.

    Args:
        attributions (Tensor or tuple[Tensor, ...]): Maps (B, any, h, w). Channels are
            averaged for masks, and summed otherwise.
        inputs (Tensor): Images (B, C, H, W).
        threshold (float): As for :func:`salient_boxes`.
        thresholding (str): As for :func:`salient_boxes`.

    Returns:
        *Tensor*: Boxes (B, 4), as :func:`salient_boxes` returns them.

    Raises:
        ValueError: If an argument is out of its range.
    """
    check_choice("thresholding", thresholding, ("value", "mean", "mask"))
    maps = spatial_maps(attributions, inputs, mean=thresholding == "mask")
    return salient_boxes(maps, threshold, thresholding)


def salient_boxes(maps: Tensor, threshold: float, thresholding: Thresholding) -> Tensor:
    """The tightest box around the pixels of each map that reach a threshold.

    Negative values count as zero. The box of a constant map, and of a map without
    positive values, is the whole image, as is that of a mask that does not reach the
    threshold.

    Args:
        maps (Tensor): Maps S, (B, H, W).
        threshold (float): Threshold as a fraction of the reference.
        thresholding (str): Reference of the threshold: "value" for the maximum of the
            map, "mean" for its mean, "mask" for 1.

    Returns:
        *Tensor*: x0 y0 x1 y1, (B, 4), int64.

    Raises:
        ValueError: If the threshold is not positive or no pixel of a map reaches it, or
            if maps are not masks in [0, 1].
        TypeError: If the threshold is not a number.

    Examples::

        >>> maps = torch.tensor([[[0.1, 0.6, 1.0], [0.0, 0.4, -2.0]]])
        >>> salient_boxes(maps, 0.5, "value")
        tensor([[1, 0, 3, 1]])
    """
    check_choice("thresholding", thresholding, ("value", "mean", "mask"))
    threshold = check_positive("threshold", threshold)
    if thresholding == "mask":
        regions = check_masks(maps) >= threshold
        regions[~regions.any(2).any(1)] = True
        return tightest_boxes(regions)
    S = unit_maps(maps)
    reference = S.mean((1, 2)) if thresholding == "mean" else S.amax((1, 2))
    regions = S >= threshold * reference[:, None, None]
    regions[is_constant(S)] = True
    empty = [i for i, region in enumerate(regions) if not region.any()]
    if empty:
        raise ValueError(
            f"threshold must be reached by a pixel of every map, got {threshold} of "
            f"the {thresholding}, which no pixel of examples {empty} reaches."
        )
    return tightest_boxes(regions)


def center_box(inputs: Tensor) -> Tensor:
    """Baseline map: a centered box that covers half of the image.

    Args:
        inputs (Tensor): Images (B, C, H, W).

    Returns:
        *Tensor*: 1 inside the box and 0 outside, (B, 1, H, W), to pass to a metric
        instead of attributions.

    Examples::

        >>> center_box(torch.rand(1, 3, 224, 224)).sum() / 224**2
        tensor(0.4975)
    """
    maps = torch.zeros_like(max_box(inputs))
    height, width = inputs.shape[-2:]
    top, left = (round(side * (1 - math.sqrt(0.5)) / 2) for side in (height, width))
    maps[..., top : height - top, left : width - left] = 1
    return maps


def max_box(inputs: Tensor) -> Tensor:
    """Baseline map: the whole image.

    Args:
        inputs (Tensor): Images (B, C, H, W).

    Returns:
        *Tensor*: 1 everywhere, (B, 1, H, W), to pass to a metric instead of
        attributions.

    Examples::

        >>> max_box(torch.rand(4, 3, 8, 8)).shape
        torch.Size([4, 1, 8, 8])
    """
    check_tensor("inputs", inputs)
    if inputs.dim() != 4 or not inputs.numel():
        raise ValueError(
            f"inputs must be images (B, C, H, W), got shape {tuple(inputs.shape)}."
        )
    return torch.ones_like(inputs[:, :1])
