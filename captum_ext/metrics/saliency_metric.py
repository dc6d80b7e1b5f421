"""Saliency metric: how small a crop is still recognized."""

import torch
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from captum_ext._captum import BaselineType, TargetType
from captum_ext._validation import check_metric_input
from captum_ext.masks import memory_format_of
from captum_ext.metrics.boxes import Thresholding, salient_boxes
from captum_ext.metrics.maps import spatial_maps
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

__all__ = ["enlarged_crop", "relative_information", "saliency_metric"]


def relative_information(a: Tensor, p: Tensor) -> Tensor:
    r"""The metric s(a, p) of a crop.

    .. math::
        s(a, p) = \log \max(a, 0.05) - \log p

    Args:
        a (Tensor): Area of the crop as a share of the image, (B,).
        p (Tensor): Probability of the class for the crop, (B,). A probability below
            the least normal float32 is taken for that, to keep means finite.

    Returns:
        *Tensor*: (B,).

    Examples::

        >>> relative_information(torch.tensor([0.5, 0.01]), torch.tensor([1.0, 0.05]))
        tensor([-0.6931,  0.0000])
    """
    return a.clamp_min(0.05).log() - p.clamp_min(torch.finfo(torch.float32).tiny).log()


def enlarged_crop(image: Tensor, box: Tensor) -> Tensor:
    """A crop resized to the size of its image, whatever its aspect ratio.

    Args:
        image (Tensor): (C, H, W).
        box (Tensor): x0 y0 x1 y1, (4,), whole pixels.

    Returns:
        *Tensor*: (C, H, W), bilinear, corners not aligned.

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
    r"""How small the crop round a map is, and how well recognized. Lower is better.

    The tightest box round all that remains of the thresholded map is cropped, resized
    to the input's size and scored. With its area a, as a share of the image, and its
    probability p,

    .. math::
        s(a, p) = \log \max(a, 0.05) - \log p.

    In place of the attributions, :func:`~captum_ext.metrics.center_box` and
    :func:`~captum_ext.metrics.max_box` give the paper's baselines; the latter is the
    cross entropy of the model.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017, Equation (3).

    Args:
        forward_func (Callable): Returns probabilities.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, h, w) of any size and
            scale. Channels are summed, layer maps interpolated to the input's size,
            negative values clipped at zero. A map without a positive value has the
            whole image as its box.
        target (int, tuple, Tensor, or list, optional): Output whose probability is
            taken, in any of Captum's forms. Default: None
        baselines (scalar or Tensor, optional): Not used: nothing is hidden.
            Default: None
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        threshold (float, optional): The share of the reference that a pixel has to
            reach. Default: 0.5
        thresholding (str, optional): The reference, "value" for the maximum of the map
            or "mean" for its mean. Default: "value"

    Returns:
        *Tensor*: s, at least log 0.05, (B,), float64 on the CPU. Probabilities below
        1.2e-38 count as that.

    Raises:
        ValueError: If an argument is out of its range or does not fit the inputs, if
            the threshold leaves no pixel of a map, or if scores are no probabilities.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8)
        >>> saliency_metric(model, x, maps, target=1).shape
        torch.Size([4])
    """
    x = check_metric_input(inputs, axes=(4,))
    boxes = salient_boxes(spatial_maps(attributions, x), threshold, thresholding)
    crops = torch.stack(list(map(enlarged_crop, x, boxes)))
    crops = crops.contiguous(memory_format=memory_format_of(x))
    (p,) = perturbed_scores(
        forward_func,
        lambda start, stop: crops,
        1,
        len(x),
        target,
        additional_forward_args,
        probable=True,
    )
    sides = (boxes[:, 2:] - boxes[:, :2]).double()
    return relative_information(sides.prod(1) / x[0, 0].numel(), p)
