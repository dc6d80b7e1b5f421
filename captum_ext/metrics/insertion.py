"""Insertion: how fast the score rises as the highest pixels are inserted."""

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import TargetType
from captum_ext._scores import PerturbationsPerEval
from captum_ext._type_checks import check_callable, check_flags
from captum_ext.metrics.curves import (
    Start,
    exchange_order,
    rank_curves,
    starting_image,
)
from captum_ext.metrics.pixel_maps import check_metric_input
from captum_ext.metrics.scoring import ForwardFunc

__all__ = ["insertion"]


@log_usage()
@torch.no_grad()
def insertion(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: Start = None,
    additional_forward_args: object = None,
    *,
    n_steps: int = 224,
    return_curve: bool = False,
    perturbations_per_eval: PerturbationsPerEval = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Mean score as pixels are inserted, highest first. Higher is better.

    With :math:`i^{(k)}` the baseline with the k highest pixels of the image inserted,

    .. math::
        \int_0^1 M(i^{(k)}) \, d\frac{k}{h w},

    by the trapezoid rule over equal steps: a constant score of 1 gives 1. Pixels are
    ranked by their signed values, equal values in row-major order, the pixels of a
    constant map in random order.

    Source: V. Petsiuk, A. Das, K. Saenko, RISE: Randomized Input Sampling for
    Explanation of Black-box Models, BMVC 2018 (blurred start); A. Kikuchi et al.,
    BOREx, ACCV 2022, Section 4 (black start, and the sum instead of the mean).

    Args:
        forward_func (Callable): The model or any function of its inputs. The metric
            lies in [0, 1] if it returns probabilities.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W); the pixels of a video are voxels.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels and interpolated to the input's size.
        target (int, tuple, Tensor, list, or Callable, optional): Output to score, in
            any form that attributions accept. Default: None
        baselines (scalar, Tensor, or "blur", optional): Image to start from,
            broadcastable to ``inputs``; "blur" is the inputs under a Gaussian blur of
            sigma 5 over 11 x 11 pixels. Default: None (zero)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        n_steps (int, optional): Number of steps, 1 to the number of pixels; one
            forward pass each, and one for the start. Default: 224
        return_curve (bool, optional): Whether to return the scores as well.
            Default: False
        perturbations_per_eval (int or "auto", optional): Images per example in one call
            of ``forward_func``; "auto" measures the fastest number in the first calls.
            It changes the metric by rounding only. Default: "auto"

    Returns:
        *Tensor* or *tuple[Tensor, Tensor]* of **area**, or a pair of **area** and
        **curve** if ``return_curve``; float64 on the CPU:
        - **area** (*Tensor*): (B,), in the range of the score.
        - **curve** (*Tensor*): Scores from the baseline to the whole input,
          (B, n_steps + 1).

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if scores are NaN or infinite.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8)
        >>> insertion(model, x, maps, target=1, n_steps=16).shape
        torch.Size([4])
    """
    check_flags(return_curve=return_curve)
    check_callable("forward_func", forward_func)
    x = check_metric_input(inputs)
    ranks, counts = exchange_order(attributions, x, n_steps)
    area, curves = rank_curves(
        forward_func,
        starting_image(baselines, x),
        x,
        ranks,
        counts,
        target,
        additional_forward_args,
        perturbations_per_eval,
    )
    return (area, curves) if return_curve else area
