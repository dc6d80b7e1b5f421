"""Acquisition functions over candidates: named ones, and any of BoTorch's."""

from collections.abc import Callable
from typing import Any

import gpytorch
import torch
from botorch.acquisition.acquisition import (
    AcquisitionFunction,
    OneShotAcquisitionFunction,
)
from botorch.acquisition.analytic import (
    LogExpectedImprovement,
    PosteriorStandardDeviation,
    UpperConfidenceBound,
)
from botorch.acquisition.knowledge_gradient import qKnowledgeGradient
from botorch.generation.sampling import SamplingStrategy
from botorch.utils.transforms import t_batch_mode_transform
from torch import Tensor

from captum_ext.surrogate.model import CandidateModel

__all__ = [
    "ACQUISITIONS",
    "Acquisition",
    "EXPLORATION",
    "InformationGain",
    "acquisition_values",
]

#: A name among :data:`ACQUISITIONS`, or a function of a BoTorch model that returns a
#: BoTorch acquisition function or sampling strategy.
Acquisition = str | Callable[[Any], Callable[..., Tensor]]

#: Factor of the standard deviation in the confidence bound.
EXPLORATION = 10.0

# Candidates per call of an acquisition function.
_CANDIDATES_AT_ONCE = 2048
# Numbers in the means of the fantasies of a call of a one-shot acquisition function.
_FANTASY_NUMBERS = 2**21


class InformationGain(AcquisitionFunction):
    r"""How much a score lowers the total variance of the map.

    With c the posterior covariance and n the variance of an observation,

    .. math::
        \sum_p \frac{c(p, x)^2}{c(x, x) + n}

    over the values p of the map: the criterion of A-optimal design.

    Args:
        model (CandidateModel): Model of one example, as its process gives it.

    Raises:
        ValueError: If the model was conditioned on further observations.

    Source: D. Rundel, F. Fumagalli, M. Muschalik, B. Bischl, M. Feurer, ShaplEIG:
    Bayesian Experimental Design for Shapley Value Estimation, ICML 2026, which chooses
    by the information about all Shapley values; here their total variance counts.

    Examples::

        >>> from captum_ext.surrogate import WindowGrid, WindowProcess
        >>> grid = WindowGrid((8, 8), sides=(3,), durations=(), stride=4)
        >>> process = WindowProcess(grid, torch.zeros(1, 8, 8).double(), capacity=1)
        >>> InformationGain(process.model(0))(torch.tensor([[[0.0]], [[3.0]]])).shape
        torch.Size([2])
    """

    model: CandidateModel

    def __init__(self, model: CandidateModel) -> None:
        super().__init__(model)
        n, n_known = model.train_inputs[0].shape[-2], model.process.chosen.shape[1]
        if n > n_known:
            raise ValueError(
                f"model must be that of a process, got one that was conditioned on "
                f"{n - n_known} further observations."
            )

    @t_batch_mode_transform(expected_q=1)  # type: ignore[arg-type]
    def forward(self, X: Tensor) -> Tensor:
        """Values (b,) of candidates (b, 1, 1)."""
        model = self.model
        squared = model.process.squared_map_covariance(model.example)
        variance = model.posterior(X, observation_noise=True).variance[..., 0, 0]
        return squared[X[..., 0, 0].long()] / variance


def _best(model: CandidateModel) -> Tensor:
    """Best score, or best mean before any score."""
    scores = model.process.scores[model.example]
    return (scores if len(scores) else model.mean).max()


#: BoTorch's upper confidence bound mean + 10 std, logarithm of the expected improvement
#: on the best score, and standard deviation; and :class:`InformationGain`.
ACQUISITIONS: dict[str, Callable[[CandidateModel], AcquisitionFunction]] = {
    "ucb": lambda model: UpperConfidenceBound(model, beta=EXPLORATION**2),
    "ei": lambda model: LogExpectedImprovement(model, best_f=_best(model)),
    "std": PosteriorStandardDeviation,
    "information": InformationGain,
}


def acquisition_values(acquisition: Acquisition, model: CandidateModel) -> Tensor:
    """Values of an acquisition function at all candidates.

    Args:
        acquisition (str or Callable): Name of an acquisition function, or a function of
            the model that returns a BoTorch acquisition function or sampling strategy.
        model (CandidateModel): Model of one example.

    Returns:
        *Tensor*: Values (G,) float64; 1 for the choice of a sampling strategy, 0
        elsewhere.

    Raises:
        ValueError: If the function does not return one finite number per candidate.
    """
    make = ACQUISITIONS[acquisition] if isinstance(acquisition, str) else acquisition
    # GPyTorch rounds variances up to 1e-9, which scores may be too small for.
    with gpytorch.settings.min_variance(double_value=1e-100):
        function = make(model)
        if isinstance(function, SamplingStrategy):
            choice = function(model.candidates, num_samples=1)
            return (model.candidates == choice).double()[:, 0]
        n_at_once = _CANDIDATES_AT_ONCE
        if isinstance(function, OneShotAcquisitionFunction):
            function, n_at_once = _at_best_fantasies(function, model)
        chunks = model.candidates[:, None].split(n_at_once)
        joined = torch.cat([_checked_values(function, chunk) for chunk in chunks])
    n_bad = int((~torch.isfinite(joined)).sum())
    if n_bad:
        raise ValueError(
            f"acquisition must return finite numbers, got NaN or infinity for {n_bad} "
            f"of {len(joined)} candidates."
        )
    return joined


def _checked_values(function: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
    """Values (b,) of candidates (b, 1, 1), one number for each."""
    values = function(X)
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values)
    if shape != (len(X),):
        raise ValueError(
            f"acquisition must return one number for each of the {len(X)} candidates "
            f"of a tensor {tuple(X.shape)}, got {shape}."
        )
    return values.detach().double()


def _at_best_fantasies(
    function: OneShotAcquisitionFunction, model: CandidateModel
) -> tuple[Callable[[Tensor], Tensor], int]:
    """Knowledge gradient with its inner maximum over all candidates.

    Returns:
        *tuple[Callable, int]*: A function of candidates (b, 1, 1), and how large b may
        be.
    """
    if not isinstance(function, qKnowledgeGradient) or not (
        function.objective is None and function.posterior_transform is None
    ):
        raise ValueError(
            f"acquisition must be a qKnowledgeGradient without objective and transform "
            f"if it is a one-shot acquisition function, got {type(function).__name__}."
        )

    def values(X: Tensor) -> Tensor:
        # The sampler gives the same fantasies when the function uses it.
        mean = model.fantasize(X, function.sampler).mean
        best = mean.argmax(-1).T[..., None]
        return function(torch.cat([X, best.double()], 1))

    n_numbers = function.num_fantasies * len(model.candidates)
    return values, max(1, _FANTASY_NUMBERS // n_numbers)
