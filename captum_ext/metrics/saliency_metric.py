"""Saliency metric: how well the model recognizes a tight crop around a map."""

import torch
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from captum_ext._captum import BaselineType, TargetType
from captum_ext._type_checks import check_callable
from captum_ext.masks import memory_format_of
from captum_ext.metrics.boxes import Thresholding, attributed_boxes
from captum_ext.metrics.pixel_maps import check_metric_input
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

__all__ = ["enlarged_crop", "relative_information", "saliency_metric"]


def relative_information(a: Tensor, p: Tensor) -> Tensor:
    r"""The metric s(a, p) of a crop.

    .. math::
        s(a, p) = \log \max(a, 0.05) - \log p

    Args:
        a (Tensor): Area of the crop as a fraction of the image, (B,).
        p (Tensor): Probability of the class for the crop, (B,), clamped to the smallest
            normal float32 so that means stay finite.

    Returns:
        *Tensor*: Metric (B,).

    Examples::

        >>> relative_information(torch.tensor([0.5, 0.01]), torch.tensor([1.0, 0.05]))
        tensor([-0.6931,  0.0000])
    """
    return a.clamp_min(0.05).log() - p.clamp_min(torch.finfo(torch.float32).tiny).log()


def enlarged_crop(image: Tensor, box: Tensor) -> Tensor:
    """A crop resized to the size of its image, whatever its aspect ratio.

    Args:
        image (Tensor): Image (C, H, W).
        box (Tensor): Box x0 y0 x1 y1 in whole pixels, (4,).

    Returns:
        *Tensor*: Crop (C, H, W), interpolated bilinearly, corners not aligned.

    Examples::

        >>> enlarged_crop(torch.rand(3, 32, 32), torch.tensor([4, 8, 9, 30])).shape
        torch.Size([3, 32, 32])
    """
    x0, y0, x1, y1 = box.tolist()
    crop = image[None, :, y0:y1, x0:x1]
    return F.interpolate(crop, image.shape[1:], mode="bilinear")[0]


@log_usage()
@torch.no_grad()
def saliency_metric(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    threshold: float = 0.5,
    thresholding: Thresholding = "value",
) -> Tensor:
    r"""How small the crop around a map is, and how well recognized. Lower is better.

    The tightest box around the pixels of the map that reach a threshold is cropped,
    resized to the input's size and scored. With its area a, as a fraction of the image,
    and its probability p,

    .. math::
        s(a, p) = \log \max(a, 0.05) - \log p.

    Pass :func:`~captum_ext.metrics.center_box` or
    :func:`~captum_ext.metrics.max_box` as attributions for the paper's baselines; the
    latter gives the cross entropy of the model.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017, Equation (3).

    Args:
        forward_func (Callable): Function of the inputs that returns probabilities.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, h, w) of any size and
            scale; summed over channels, interpolated to the input's size, and clipped
            at zero. The box of a map without positive values is the whole image.
        target (int, tuple, Tensor, list, or Callable, optional): Class whose
            probability is used, in any form that attributions accept. Default: None
        baselines (scalar or Tensor, optional): Not used: nothing is hidden.
            Default: None
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        threshold (float, optional): Threshold as a fraction of the reference.
            Default: 0.5
        thresholding (str, optional): Reference of the threshold: "value" for the
            maximum of the map; "mean" for its mean; "mask" for 1, as in the paper, for
            masks in [0, 1] such as those of a masking model, whose channels are
            averaged. Default: "value"

    Returns:
        *Tensor*: s, at least log 0.05, (B,), float64 on the CPU. Probabilities are
        clamped to at least 1.2e-38.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, if
            no pixel of a map reaches the threshold, or if scores are not
            probabilities.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8)
        >>> saliency_metric(model, x, maps, target=1).shape
        torch.Size([4])
    """
    check_callable("forward_func", forward_func)
    x = check_metric_input(inputs, axes=(4,))
    boxes = attributed_boxes(attributions, x, threshold, thresholding)
    crops = torch.stack(list(map(enlarged_crop, x, boxes)))
    crops = crops.contiguous(memory_format=memory_format_of(x))
    (p,) = perturbed_scores(
        forward_func,
        lambda start, stop: crops,
        1,
        len(x),
        target,
        additional_forward_args,
        probabilities=True,
    )
    sides = (boxes[:, 2:] - boxes[:, :2]).double()
    return relative_information(sides.prod(1) / x[0, 0].numel(), p)
