"""Localization error: whether the box round a map is the box of an object."""

from collections.abc import Sequence

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._validation import check_boxes, check_metric_input
from captum_ext.metrics.boxes import Thresholding, salient_boxes
from captum_ext.metrics.maps import spatial_maps
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
    """Whether the tightest box round a map misses all objects. Lower is better.

    The map is thresholded, and the tightest box round all that remains has to overlap
    one of the given boxes with an intersection over union above 0.5. The mean over a
    data set is the localization error. In place of the attributions,
    :func:`~captum_ext.metrics.center_box` and :func:`~captum_ext.metrics.max_box` give
    the paper's baselines.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017, Section 5.1.1; the mean as reference is R. Fong's and A. Vedaldi's,
    Interpretable Explanations of Black Boxes by Meaningful Perturbation, ICCV 2017.

    Args:
        forward_func (Callable, optional): Not called; None is accepted.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W), for their size.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, h, w) of any size and
            scale. Channels are summed, layer maps interpolated to the input's size,
            negative values clipped at zero. A map without a positive value has the
            whole image as its box.
        target (int, tuple, Tensor, or list, optional): Not used. Default: None
        baselines (scalar or Tensor, optional): Not used. Default: None
        additional_forward_args (Any, optional): Not used. Default: None
        boxes (sequence of Tensor): For each example the boxes (N, 4) of the explained
            class, x0 y0 x1 y1 as edges in pixels of the input.
        threshold (float, optional): The share of the reference that a pixel has to
            reach. Default: 0.5
        thresholding (str, optional): The reference, "value" for the maximum of the map
            or "mean" for its mean. Default: "value"

    Returns:
        *Tensor*: 1 for an error, 0 for a success, (B,), float64 on the CPU.

    Raises:
        ValueError: If an argument is out of its range or does not fit the inputs, or
            if the threshold leaves no pixel of a map.
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
    found = salient_boxes(spatial_maps(attributions, x), threshold, thresholding)
    overlaps = [box_iou(box[None], each) for box, each in zip(found.double(), truth)]
    return torch.stack([1 - (overlap > 0.5).any().double() for overlap in overlaps])
