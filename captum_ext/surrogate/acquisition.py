"""How much it is worth to try a window: named functions, and any of BoTorch's.

The named ones are closed forms of the posterior's mean mu and deviation sigma, which a
:class:`~captum_ext.surrogate.WindowProcess` knows for all windows at once.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["ACQUISITIONS", "Acquisition", "EXPLORATION", "acquisition_values"]

#: A name among :data:`ACQUISITIONS`, or what makes a BoTorch acquisition function of a
#: BoTorch model.
Acquisition = str | Callable[[Any], Callable[[Tensor], Tensor]]

#: Deviations that count as much as the mean in the confidence bounds.
EXPLORATION = 10.0

# Windows that a BoTorch function is asked about at a time.
_WINDOWS_AT_ONCE = 1024


def _upper_confidence_bound(mean: Tensor, sigma: Tensor, best: Tensor) -> Tensor:
    return mean + EXPLORATION * sigma


def _absolute_upper_confidence_bound(
    mean: Tensor, sigma: Tensor, best: Tensor
) -> Tensor:
    return mean.abs() + EXPLORATION * sigma


def _expected_improvement(mean: Tensor, sigma: Tensor, best: Tensor) -> Tensor:
    u = (mean - best) / sigma
    density = torch.exp(-u.square() / 2) / math.sqrt(2 * math.pi)
    return sigma * (density + u * torch.special.ndtr(u))


def _deviation(mean: Tensor, sigma: Tensor, best: Tensor) -> Tensor:
    return sigma


#: mu + beta sigma, |mu| + beta sigma, E[max(0, f - best score)], and sigma.
ACQUISITIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ucb": _upper_confidence_bound,
    "abs_ucb": _absolute_upper_confidence_bound,
    "ei": _expected_improvement,
    "std": _deviation,
}


def acquisition_values(
    acquisition: Callable[[Any], Callable[[Tensor], Tensor]],
    model: object,
    parameters: Tensor,
) -> Tensor:
    """Values of a BoTorch acquisition function.

    Args:
        acquisition (Callable): Makes the function of the model.
        model (Model): A BoTorch model of one example.
        parameters (Tensor): Of n windows, (n, d).

    Returns:
        *Tensor*: (n,) float64.

    Raises:
        ValueError: If the function does not give one finite number a window.
    """
    function = acquisition(model)
    values = []
    for chunk in parameters.split(_WINDOWS_AT_ONCE):
        value = function(chunk[:, None])
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value)
        if shape != (len(chunk),):
            raise ValueError(
                f"acquisition must give one number for each of the {len(chunk)} "
                f"windows of a tensor {tuple(chunk[:, None].shape)}, got {shape}."
            )
        values.append(value.detach().double())
    joined = torch.cat(values)
    n_bad = int((~torch.isfinite(joined)).sum())
    if n_bad:
        raise ValueError(
            f"acquisition must give finite numbers, got NaN or infinity for {n_bad} "
            f"of {len(joined)} windows."
        )
    return joined
