"""Average drop and increase in confidence: what masking by a map does to the score."""

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._validation import check_baselines
from captum_ext.masks import apply_masks
from captum_ext.metrics.pixel_maps import check_metric_input, spatial_maps, unit_maps
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

__all__ = ["average_drop", "increase_in_confidence", "relative_drop"]


def relative_drop(whole: Tensor, kept: Tensor) -> Tensor:
    r"""Drop of a score as a fraction of it; 0 if it rises.

    .. math::
        \frac{\max(0, Y - O)}{Y}

    Args:
        whole (Tensor): Scores Y of the whole inputs, (B,).
        kept (Tensor): Scores O of the masked inputs, (B,).

    Returns:
        *Tensor*: Fractions (B,); NaN if Y is 0.

    Examples::

        >>> relative_drop(torch.tensor([0.8, 0.8]), torch.tensor([0.2, 0.9]))
        tensor([0.7500, 0.0000])
    """
    return (whole - kept).clamp_min(0) / whole


@log_usage()
@torch.no_grad()
def average_drop(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
) -> Tensor:
    r"""Fraction of the probability lost if only the map is kept. Lower is better.

    With Y the probability of the input and O that of its part :math:`I \odot S`,

    .. math::
        \frac{\max(0, Y - O)}{Y}.

    The mean over a dataset is the average drop. It is 0 for a map that keeps the whole
    image, so that large maps get low values: judge it beside a metric of size, such as
    :func:`~captum_ext.metrics.sparseness`.

    Source: A. Chattopadhay et al., Grad-CAM++: Generalized Gradient-Based Visual
    Explanations for Deep Convolutional Networks, WACV 2018, Section 4.1 (in percent).

    Args:
        forward_func (Callable): Function of the inputs that returns probabilities.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels, interpolated to the input's size, clipped at
            zero, and divided by their maximum.
        target (int, tuple, Tensor, or list, optional): Class whose probability is
            used, in any of Captum's forms. Default: None
        baselines (scalar or Tensor, optional): Replacement of hidden parts,
            broadcastable to ``inputs``. Zero is black for pixel values, and the mean
            color for normalized inputs. Default: None (zero)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None

    Returns:
        *Tensor*: (B,), float64 on the CPU, in [0, 1]; NaN for a map without positive
        values.

    Raises:
        ValueError: If an argument does not match the inputs, or if scores are not
            probabilities.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> x, maps = torch.ones(1, 1, 2, 2), torch.tensor([[[[1.0, 1.0], [0.5, 0.0]]]])
        >>> average_drop(lambda x: x.mean((1, 2, 3)), x, maps)
        tensor([0.3750], dtype=torch.float64)
    """
    whole, kept = _scores(
        forward_func, inputs, attributions, target, baselines, additional_forward_args
    )
    return relative_drop(whole, kept)


@log_usage()
@torch.no_grad()
def increase_in_confidence(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
) -> Tensor:
    """Whether the probability rises if only the map is kept. Higher is better.

    The mean over a dataset is the rate of increase in confidence. A map that keeps the
    whole image gets 0.

    Source: A. Chattopadhay et al., Grad-CAM++: Generalized Gradient-Based Visual
    Explanations for Deep Convolutional Networks, WACV 2018, Section 4.1 (in percent).

    Args:
        forward_func (Callable): Function of the inputs that returns probabilities.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels, interpolated to the input's size, clipped at
            zero, and divided by their maximum.
        target (int, tuple, Tensor, or list, optional): Class whose probability is
            used, in any of Captum's forms. Default: None
        baselines (scalar or Tensor, optional): Replacement of hidden parts,
            broadcastable to ``inputs``. Zero is black for pixel values, and the mean
            color for normalized inputs. Default: None (zero)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None

    Returns:
        *Tensor*: 1 for a rise, else 0, (B,), float64 on the CPU; NaN for a map without
        positive values.

    Raises:
        ValueError: If an argument does not match the inputs, or if scores are not
            probabilities.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> x, maps = torch.ones(1, 1, 2, 2), torch.tensor([[[[1.0, 1.0], [0.5, 0.0]]]])
        >>> increase_in_confidence(lambda x: 1 / x.sum((1, 2, 3)), x, maps)
        tensor([1.], dtype=torch.float64)
    """
    whole, kept = _scores(
        forward_func, inputs, attributions, target, baselines, additional_forward_args
    )
    return (kept > whole).double().masked_fill(kept.isnan(), torch.nan)


def _scores(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType,
    baselines: BaselineType,
    additional_forward_args: object,
) -> Tensor:
    """Probabilities of whole and masked inputs, (2, B); NaN for empty masks."""
    x = check_metric_input(inputs)
    (fill,) = check_baselines(baselines, (x,))
    S = unit_maps(spatial_maps(attributions, x))
    masked = apply_masks(x, [fill], (1 - S)[None, None, :, None].to(x))
    # A copy, because a model may change its inputs in place.
    images = (x.clone(), masked)
    scores = perturbed_scores(
        forward_func,
        lambda start, stop: images[start],
        2,
        len(x),
        target,
        additional_forward_args,
        probabilities=True,
    )
    empty = S.flatten(1).amax(1) == 0
    scores[1, empty] = torch.nan
    return scores
