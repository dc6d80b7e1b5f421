"""Acquisition functions over windows: named ones, and any of BoTorch's.

The named ones are closed forms of the posterior mean mu and standard deviation sigma,
which a :class:`~captum_ext.surrogate.WindowProcess` holds for all windows at once.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["ACQUISITIONS", "Acquisition", "EXPLORATION", "acquisition_values"]

#: A name among :data:`ACQUISITIONS`, or a function of a BoTorch model that returns a
#: BoTorch acquisition function.
Acquisition = str | Callable[[Any], Callable[[Tensor], Tensor]]

#: Factor of the standard deviation in the confidence bounds.
EXPLORATION = 10.0

# Windows per call of a BoTorch acquisition function.
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


def _posterior_std(mean: Tensor, sigma: Tensor, best: Tensor) -> Tensor:
    return sigma


#: mu + beta sigma, |mu| + beta sigma, E[max(0, f - best score)], and sigma.
ACQUISITIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ucb": _upper_confidence_bound,
    "abs_ucb": _absolute_upper_confidence_bound,
    "ei": _expected_improvement,
    "std": _posterior_std,
}


def acquisition_values(
    acquisition: Callable[[Any], Callable[[Tensor], Tensor]],
    model: object,
    parameters: Tensor,
) -> Tensor:
    """Values of a BoTorch acquisition function at windows.

    Args:
        acquisition (Callable): Function of the model that returns the acquisition
            function.
        model (Model): BoTorch model of one example.
        parameters (Tensor): Parameters of n windows, (n, d).

    Returns:
        *Tensor*: Values (n,) float64.

    Raises:
        ValueError: If the function does not return one finite number per window.
    """
    function = acquisition(model)
    values = []
    for chunk in parameters.split(_WINDOWS_AT_ONCE):
        value = function(chunk[:, None])
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value)
        if shape != (len(chunk),):
            raise ValueError(
                f"acquisition must return one number for each of the {len(chunk)} "
                f"windows of a tensor {tuple(chunk[:, None].shape)}, got {shape}."
            )
        values.append(value.detach().double())
    joined = torch.cat(values)
    n_bad = int((~torch.isfinite(joined)).sum())
    if n_bad:
        raise ValueError(
            f"acquisition must return finite numbers, got NaN or infinity for {n_bad} "
            f"of {len(joined)} windows."
        )
    return joined
