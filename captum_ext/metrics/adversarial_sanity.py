"""Adversarial sanity: whether cleaning the highest pixels undoes an attack."""

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._scores import PerturbationsPerEval
from captum_ext._validation import (
    check_callable,
    check_metric_input,
    check_perturbations_per_eval,
    check_probability,
    check_target,
)
from captum_ext.metrics.curves import exchange_order, rank_curves, starting_image
from captum_ext.metrics.enhanced_pgd import enhanced_pgd
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

__all__ = ["adversarial_sanity", "missing_area"]


def missing_area(ideal: Tensor, area: Tensor) -> Tensor:
    r"""What an area lacks of the ideal one, as a share of it.

    .. math::
        \frac{Area_{Ideal} - Area_S}{Area_{Ideal}}

    Args:
        ideal (Tensor): (B,).
        area (Tensor): (B,).

    Returns:
        *Tensor*: (B,), 0 for the ideal and 1 for no area.

    Examples::

        >>> missing_area(torch.tensor([0.8]), torch.tensor([0.2]))
        tensor([0.7500])
    """
    return (ideal - area) / ideal


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
    perturbations_per_eval: PerturbationsPerEval = "auto",
) -> Tensor:
    r"""How slowly cleaning an attacked input brings its label back. Lower is better.

    The input is attacked, its pixels are replaced by the clean ones in the order of the
    map, and the probability of the label is followed over a first share of the pixels.
    An ideal map restores the probability of the clean input at once, so that its mean
    over that share is P(K(I)); with the mean under the given map,

    .. math::
        Sanity = \frac{Area_{Ideal} - Area_S}{Area_{Ideal}},
        \quad Area_{Ideal} = P(K(I)).

    It is 0 for the ideal map, 1 where nothing comes back, and below 0 where a half
    cleaned input is more convincing than the clean one.

    Source: M. Jalwana et al., CAMERAS: Enhanced Resolution And Sanity preserving Class
    Activation Mapping for image Saliency, CVPR 2021; supplement A-4, Equations (3) and
    (4), both areas divided by the number of pixels.

    Args:
        forward_func (Callable): Returns probabilities (B, classes), and is
            differentiated by the attack.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale. Channels are summed, layer maps interpolated to the input's size.
            The attack takes negative values for zero and the maximum for 1.
        target (int, tuple, Tensor, or list, optional): Label whose probability is
            followed, in any of Captum's forms. Default: None
        baselines (Tensor, optional): Attacked inputs (B, C, ...) of your own, for
            other settings or to judge several maps from one start. Default: None
            (:func:`enhanced_pgd` towards the least likely label)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        fraction (float, optional): Share of the pixels that is cleaned, in (0, 1).
            Default: 0.1
        n_steps (int, optional): Number of equal shares in which they are, at most one
            a pixel. Default: 50
        radius (float, optional): Largest change by the attack, in units of ``inputs``;
            the default is the paper's for pixels in [0, 1]. Default: 12 / 255
        perturbations_per_eval (int or "auto", optional): Images of each example in one
            call of ``forward_func``; "auto" finds the fastest number during the first
            ones. It changes the metric by rounding only. Default: "auto"

    Returns:
        *Tensor*: (B,), float64 on the CPU.

    Raises:
        ValueError: If an argument is out of its range or does not fit the inputs, if
            scores are no probabilities, or if the attack does not lower them.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8).round()
        >>> target = model(x).argmax(1)
        >>> adversarial_sanity(model, x, maps, target=target, n_steps=6).shape
        torch.Size([4])
    """
    check_callable("forward_func", forward_func)
    check_probability("fraction", fraction)
    check_perturbations_per_eval(perturbations_per_eval)
    x = check_metric_input(inputs)
    check_target(target, len(x))
    ranks, counts = exchange_order(attributions, x, n_steps, fraction)
    if baselines is None:
        attacked = enhanced_pgd(
            forward_func,
            x,
            attributions,
            radius=radius,
            additional_forward_args=additional_forward_args,
        )
    else:
        attacked = starting_image(baselines, x)
    asked = (target, additional_forward_args)
    (ideal,) = perturbed_scores(
        forward_func, lambda i, j: x, 1, len(x), *asked, probable=True
    )
    area, curves = rank_curves(
        forward_func,
        attacked,
        x,
        ranks,
        counts,
        *asked,
        perturbations_per_eval,
        probable=True,
    )
    unharmed = (curves[:, 0] >= ideal).nonzero().flatten().tolist()
    if unharmed:
        raise ValueError(
            f"target must be a label that loses probability by the attack, got one "
            f"that does not for examples {unharmed}."
        )
    return missing_area(ideal, area)
