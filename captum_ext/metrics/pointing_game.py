"""Pointing game: whether the highest pixel of a map lies on the object."""

from collections.abc import Sequence

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._type_checks import check_sequence
from captum_ext._validation import check_integers, check_not_negative
from captum_ext.metrics.boxes import box_regions, check_boxes, given_regions
from captum_ext.metrics.pixel_maps import (
    check_metric_input,
    highest_pixels,
    spatial_maps,
)
from captum_ext.metrics.scoring import ForwardFunc

__all__ = ["is_difficult", "pointing_game"]


@log_usage()
@torch.no_grad()
def pointing_game(
    forward_func: ForwardFunc | None,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    boxes: Sequence[Tensor] | None = None,
    masks: Tensor | None = None,
    tolerance: float = 15.0,
) -> Tensor:
    """Whether the highest pixel of a map lies on the object. Higher is better.

    If several pixels are highest, up to rounding, as in a map with one value per
    superpixel, the value is the share of them that are hits; a constant map gets the
    level of chance. The mean over a dataset is the accuracy "All" in the papers'
    tables; the mean over the examples for which :func:`is_difficult` is true is the
    accuracy "Difficult".

    Source: J. Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV
    2018.

    Args:
        forward_func (Callable, optional): Not called; None is accepted.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W), video or volumes
            (B, C, T, H, W), or sequences (B, C, L); only their size is used.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels and interpolated to the input's size.
        target (int, tuple, Tensor, or list, optional): Not used. Default: None
        baselines (scalar or Tensor, optional): Not used. Default: None
        additional_forward_args (Any, optional): Not used. Default: None
        boxes (sequence of Tensor, optional): For each example the boxes (N, 4) of the
            explained class, x0 y0 x1 y1 as edges in pixels of the input; hitting any
            of them counts, in all frames of a video. Default: None
        masks (Tensor, optional): Boolean masks of the explained class, (B, H, W),
            (B, T, H, W) or (B, L), instead of boxes. Default: None
        tolerance (float, optional): Largest distance from the object that counts as a
            hit, in pixels along all axes, between pixel centers. Default: 15.0

    Returns:
        *Tensor*: 1 for a hit, 0 for a miss, a share if several pixels are highest, NaN
        without an object, (B,), float64 on the CPU.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if not exactly one of ``boxes`` and ``masks`` is given.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> maps = torch.zeros(1, 1, 32, 32)
        >>> maps[..., 4, 20] = 1
        >>> boxes = [torch.tensor([[18.0, 9.0, 30.0, 30.0]])]
        >>> x = torch.rand(1, 3, 32, 32)
        >>> [pointing_game(None, x, maps, boxes=boxes, tolerance=t) for t in (4, 5)]
        [tensor([0.], dtype=torch.float64), tensor([1.], dtype=torch.float64)]
    """
    tolerance = check_not_negative("tolerance", tolerance)
    x = check_metric_input(inputs)
    maps = spatial_maps(attributions, x)
    regions = given_regions(boxes, masks, maps.shape)
    highest = highest_pixels(maps)
    values = torch.full((len(x),), torch.nan, dtype=torch.float64)
    for i in regions.flatten(1).any(1).nonzero()[:, 0].tolist():
        distances = _distances(regions[i])[highest[i]]
        values[i] = (distances <= tolerance).double().mean()
    return values


def _distances(region: Tensor) -> Tensor:
    """Distance between each pixel and the nearest pixel of a region."""
    from scipy.ndimage import distance_transform_edt

    return torch.from_numpy(distance_transform_edt(~region.numpy()))


def is_difficult(
    boxes: Sequence[Tensor], other_boxes: Sequence[Tensor], size: Sequence[int]
) -> Tensor:
    """Whether an example belongs to the "Difficult" subset of the pointing game.

    An example is difficult if the boxes of the explained class cover less than a
    quarter of the image and an object of another class is present.

    Args:
        boxes (sequence of Tensor): For each example the boxes (N, 4) of the explained
            class, x0 y0 x1 y1 as edges in pixels. An example without any is not
            difficult.
        other_boxes (sequence of Tensor): For each example the boxes of all other
            classes, (N, 4), where N may be 0.
        size (sequence of int): H and W in pixels.

    Returns:
        *Tensor*: Boolean tensor (B,) on the CPU.

    Raises:
        ValueError: If ``boxes`` are not valid boxes, or if the sequences differ in
            length.

    Examples::

        >>> small, large = torch.tensor([[0, 0, 4, 3]]), torch.tensor([[0, 0, 8, 4]])
        >>> is_difficult([small, small, large], [large, large[:0], small], (8, 8))
        tensor([ True, False, False])
    """
    n_examples = len(check_sequence("boxes", boxes, "tensors (N, 4)"))
    n_others = len(check_sequence("other_boxes", other_boxes, "tensors (N, 4)"))
    if n_examples != n_others:
        raise ValueError(
            f"boxes and other_boxes must hold one tensor for each example, got "
            f"{n_examples} and {n_others}."
        )
    truth = check_boxes(boxes, n_examples)
    others_of = check_boxes(other_boxes, n_examples, "other_boxes")
    size = check_integers("size", size, 1, n=2)
    regions = [box_regions(each, size) for each in truth]
    small = [bool(region.double().mean() < 0.25) for region in regions]
    present = [len(each) > 0 for each in truth]
    others = [len(each) > 0 for each in others_of]
    return torch.tensor([all(each) for each in zip(present, small, others)])
