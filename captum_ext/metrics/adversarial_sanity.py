"""Adversarial sanity: whether restoring the highest pixels undoes an attack."""

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import (
    BaselineType,
    TargetType,
    format_additional_forward_args,
    run_forward,
)
from captum_ext._modes import buffers_kept
from captum_ext._outputs import output_tensor
from captum_ext._scores import PerturbationsPerEval
from captum_ext._type_checks import check_callable, check_flags
from captum_ext._validation import (
    check_perturbations_per_eval,
    check_probability,
    check_target,
)
from captum_ext.metrics.baselines import Normalization
from captum_ext.metrics.curves import exchange_order, rank_curves, starting_image
from captum_ext.metrics.enhanced_pgd import enhanced_pgd
from captum_ext.metrics.pixel_maps import check_metric_input
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

__all__ = ["adversarial_sanity", "missing_area", "predicted_labels"]


def missing_area(ideal: Tensor, area: Tensor) -> Tensor:
    r"""Area missing from the ideal one, as a fraction of it.

    .. math::
        \frac{Area_{Ideal} - Area_S}{Area_{Ideal}}

    Args:
        ideal (Tensor): Ideal areas (B,).
        area (Tensor): Areas (B,).

    Returns:
        *Tensor*: Missing fractions (B,), 0 for the ideal area and 1 for no area.

    Examples::

        >>> missing_area(torch.tensor([0.8]), torch.tensor([0.2]))
        tensor([0.7500])
    """
    return (ideal - area) / ideal


def predicted_labels(
    forward_func: ForwardFunc, inputs: Tensor, additional_forward_args: object
) -> Tensor:
    """Label with the highest output; for one output, whether it is at least one half.

    Args:
        forward_func (Callable): The model or any function of its inputs.
        inputs (Tensor): Inputs (B, ...).
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``.

    Returns:
        *Tensor*: Labels (B,), int64 on the CPU.

    Examples::

        >>> predicted_labels(lambda x: x, torch.tensor([[0.2, 0.8], [0.9, 0.1]]), None)
        tensor([1, 0])
        >>> predicted_labels(lambda x: x, torch.tensor([0.4, 0.6]), None)
        tensor([0, 1])
    """
    args = format_additional_forward_args(additional_forward_args)
    with buffers_kept(forward_func):
        output = output_tensor(run_forward(forward_func, inputs.clone(), None, args))
    scores = output.cpu().reshape(len(inputs), -1)
    return scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] >= 0.5).long()


@log_usage()
@torch.no_grad()
def adversarial_sanity(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    fraction: float = 0.1,
    n_steps: int = 50,
    radius: float = 12 / 255,
    beta: float = 50.0,
    normalization: Normalization | None = None,
    perturbations_per_eval: PerturbationsPerEval = "auto",
    return_curve: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""How slowly restoring clean pixels undoes an attack. Lower is better.

    The input is attacked, and its pixels are replaced by the clean ones in the order of
    the map, up to a fraction of all pixels. An ideal map restores the probability of
    the clean input at once: the mean probability over that fraction is P(K(I)). With
    the mean Area_S for the given map,

    .. math::
        Sanity &= \frac{Area_{Ideal} - Area_S}{Area_{Ideal}}, \\
        Area_{Ideal} &= P(K(I)).

    The metric is 0 for the ideal map, 1 if the probability stays 0, and negative if
    partly restored inputs have a higher probability than the clean one. It is NaN where
    the attack fails: where it does not change the predicted label, or does not lower
    the probability of ``target``.

    Source: M. Jalwana et al., CAMERAS: Enhanced Resolution And Sanity preserving Class
    Activation Mapping for image Saliency, CVPR 2021; supplement A-4, Equations (3) and
    (4), both areas divided by the number of pixels.

    Args:
        forward_func (Callable): Function of the inputs that returns probabilities
            (B, classes); the attack differentiates it.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels and interpolated to the input's size. The attack
            also clips them at zero and divides them by their maximum.
        target (int, tuple, Tensor, list, or Callable, optional): Label whose
            probability is measured, in any form that attributions accept. Default:
            None
        baselines (Tensor, optional): Attacked inputs (B, C, ...), for other attacks or
            to compare several maps from one start. Default: None
            (:func:`enhanced_pgd` towards the least likely label)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        fraction (float, optional): Fraction of the pixels to restore, in (0, 1).
            Default: 0.1
        n_steps (int, optional): Number of equal steps, at most one per pixel.
            Default: 50
        radius (float, optional): Largest change by the attack, in units of pixels; the
            default is the paper's, for pixels in [0, 1]. Default: 12 / 255
        beta (float, optional): Weight of the attack's penalty on irrelevant pixels; see
            :class:`EnhancedPGD`. Default: 50.0
        normalization (tuple, optional): Mean and standard deviation by which inputs
            were normalized, one number per channel each: the attack is then one of
            pixels, which stay in [0, 1]. Default: None (inputs are pixels, unbounded)
        perturbations_per_eval (int or "auto", optional): Images per example in one call
            of ``forward_func``; "auto" measures the fastest number in the first calls.
            It changes the metric by rounding only. Default: "auto"
        return_curve (bool, optional): Whether to return the probabilities as well.
            Default: False

    Returns:
        *Tensor* or *tuple* of **sanity** and **curve** if ``return_curve``; float64 on
        the CPU:

        - **sanity** (*Tensor*): (B,), NaN where the attack fails.
        - **curve** (*Tensor*): (B, n_steps + 1) probabilities, from the attacked input
          to the one with the given fraction of clean pixels.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if scores are not probabilities.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8).round()
        >>> target = model(x).argmax(1)
        >>> adversarial_sanity(model, x, maps, target=target, n_steps=6).shape
        torch.Size([4])
    """
    check_callable("forward_func", forward_func)
    check_flags(return_curve=return_curve)
    fraction = check_probability("fraction", fraction)
    check_perturbations_per_eval(perturbations_per_eval)
    x = check_metric_input(inputs)
    target = check_target(target, len(x))
    ranks, counts = exchange_order(attributions, x, n_steps, fraction)
    if baselines is None:
        attacked = enhanced_pgd(
            forward_func,
            x,
            attributions,
            normalization,
            radius=radius,
            beta=beta,
            additional_forward_args=additional_forward_args,
        )
    else:
        attacked = starting_image(baselines, x)
    args = (target, additional_forward_args)
    # A copy, because a model may change its inputs in place.
    (ideal,) = perturbed_scores(
        forward_func, lambda *_: x.clone(), 1, len(x), *args, probabilities=True
    )
    exchanged = (attacked, x, ranks, counts)
    area, curves = rank_curves(
        forward_func, *exchanged, *args, perturbations_per_eval, probabilities=True
    )
    before, after = (
        predicted_labels(forward_func, image, additional_forward_args)
        for image in (x, attacked)
    )
    failed = (before == after) | (curves[:, 0] >= ideal)
    sanity = missing_area(ideal, area).masked_fill(failed, torch.nan)
    return (sanity, curves) if return_curve else sanity
