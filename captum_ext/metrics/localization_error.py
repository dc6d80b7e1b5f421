"""Localization error: whether the box around a map misses the box of an object."""

from collections.abc import Sequence

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext.metrics.boxes import Thresholding, attributed_boxes, check_boxes
from captum_ext.metrics.pixel_maps import check_metric_input
from captum_ext.metrics.scoring import ForwardFunc

__all__ = ["localization_error"]


@log_usage()
@torch.no_grad()
def localization_error(
    forward_func: ForwardFunc | None,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    boxes: Sequence[Tensor],
    threshold: float = 0.5,
    thresholding: Thresholding = "value",
) -> Tensor:
    """Whether the tightest box around a map misses all objects. Lower is better.

    The tightest box around the pixels of the map that reach a threshold is a success if
    its intersection over union with one of the given boxes is above 0.5. The mean over
    a dataset is the localization error. Pass
    :func:`~captum_ext.metrics.center_box` or :func:`~captum_ext.metrics.max_box` as
    attributions for the paper's baselines.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017, Section 5.1.1; the mean as reference is from R. Fong, A. Vedaldi,
    Interpretable Explanations of Black Boxes by Meaningful Perturbation, ICCV 2017.

    Args:
        forward_func (Callable, optional): Not called; None is accepted.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W); only their size is used.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, h, w) of any size and
            scale; summed over channels, interpolated to the input's size, and clipped
            at zero. The box of a map without positive values is the whole image.
        target (int, tuple, Tensor, or list, optional): Not used. Default: None
        baselines (scalar or Tensor, optional): Not used. Default: None
        additional_forward_args (Any, optional): Not used. Default: None
        boxes (sequence of Tensor): For each example the boxes (N, 4) of the explained
            class, x0 y0 x1 y1 as edges in pixels of the input.
        threshold (float, optional): Threshold as a fraction of the reference.
            Default: 0.5
        thresholding (str, optional): Reference of the threshold: "value" for the
            maximum of the map; "mean" for its mean; "mask" for 1, as in the paper, for
            masks in [0, 1] such as those of a masking model, whose channels are
            averaged. Default: "value"

    Returns:
        *Tensor*: 1 for an error, 0 for a success, NaN without an object, (B,), float64
        on the CPU.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if no pixel of a map reaches the threshold.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> from captum_ext.metrics import center_box
        >>> x = torch.rand(2, 3, 32, 32)
        >>> boxes = [torch.tensor([[4, 4, 28, 28]]), torch.tensor([[0, 0, 9, 9]])]
        >>> localization_error(None, x, center_box(x), boxes=boxes)
        tensor([0., 1.], dtype=torch.float64)
    """
    from torchvision.ops import box_iou

    x = check_metric_input(inputs, axes=(4,))
    truth = check_boxes(boxes, len(x))
    found = attributed_boxes(attributions, x, threshold, thresholding)
    overlaps = [box_iou(box[None], each) for box, each in zip(found.double(), truth)]
    misses = [1 - (overlap > 0.5).any().double() for overlap in overlaps]
    values = torch.stack(misses)
    values[[len(each) == 0 for each in truth]] = torch.nan
    return values
