"""Gaussian processes over candidates that choose the next one to score."""

from abc import abstractmethod

import torch
from torch import Tensor

from captum_ext._warnings import ExampleWarning, warn_caller
from captum_ext.surrogate.acquisition import Acquisition, acquisition_values
from captum_ext.surrogate.model import CandidateModel
from captum_ext.surrogate.posterior import CandidatePosterior

__all__ = ["CandidateProcess"]

# Share of the spread of acquisition values that breaks ties, in a random order.
_TIE = 1e-6


class CandidateProcess(CandidatePosterior):
    """B Gaussian processes, one per example, that choose among G candidates.

    A subclass supplies the prior of :class:`CandidatePosterior` and :meth:`fit`.

    Args:
        prior_mean (Tensor): Prior mean of all candidates, (B, G) float64.
        capacity (int): Largest number N of candidates per example.
        seed (int, optional): Seed of the order among candidates with the same
            acquisition value, and of random acquisition functions. Default: 0

    Attributes:
        repeats (bool): Whether a candidate may be chosen again.
    """

    repeats = True

    def __init__(self, prior_mean: Tensor, capacity: int, seed: int = 0) -> None:
        super().__init__(prior_mean, capacity)
        n_candidates = prior_mean.shape[1]
        generator = torch.Generator().manual_seed(seed)
        self._order = torch.rand(n_candidates, generator=generator, dtype=torch.float64)
        # One stream of random numbers for each number of chosen candidates.
        seeds = torch.randint(2**62, (capacity + 1,), generator=generator)
        self._seeds = seeds.tolist()

    @abstractmethod
    def fit(self) -> Tensor:
        """Fit the hyperparameters to the scores; none is pending.

        Returns:
            *Tensor*: Which examples failed and keep their hyperparameters, (B,) bool.
        """

    def start(self) -> Tensor:
        """Choose the candidates (B,) of the highest mean, which become pending."""
        return self._choose_highest(self.mean)

    def choose(self, acquisition: Acquisition) -> Tensor:
        """Choose the candidates of the highest value, which become pending.

        A pending candidate counts as if it had scored its posterior mean, so that the
        next one is chosen elsewhere.

        Args:
            acquisition (str or Callable): Name of an acquisition function, or a
                function of a :class:`CandidateModel` that returns one of BoTorch's, or
                a sampling strategy.

        Returns:
            *Tensor*: Indices (B,).
        """
        return self._choose_highest(self._acquisition_values(acquisition))

    def _acquisition_values(self, acquisition: Acquisition) -> Tensor:
        values = []
        # BoTorch functions draw from the global generator of the CPU.
        with torch.random.fork_rng(devices=[]):
            for example in range(len(self.mean)):
                torch.default_generator.manual_seed(self._seeds[self.chosen.shape[1]])
                values.append(acquisition_values(acquisition, self.model(example)))
        return torch.stack(values)

    def _choose_highest(self, values: Tensor) -> Tensor:
        # Not the lowest value: logarithms of the expected improvement fall far.
        spread = (values.amax(1) - values.mean(1)).clamp_min(1e-12)
        ranked = values + _TIE * spread[:, None] * self._order
        if not self.repeats:
            ranked = ranked.scatter(1, self.chosen, -torch.inf)
        indices = ranked.argmax(1)
        self.add_pending(indices)
        return indices

    def refit(self) -> None:
        """Fit the hyperparameters to the scores and condition on all scores again."""
        failed = self.fit()
        if failed.any():
            warn_caller(
                f"The Gaussian process could not be fitted for examples "
                f"{failed.nonzero()[:, 0].tolist()}; they keep their last "
                f"hyperparameters.",
                ExampleWarning,
            )
        self.condition()

    def model(self, example: int) -> CandidateModel:
        """Process of one example as a BoTorch model.

        Args:
            example (int): Index of the example.
        """
        return CandidateModel(self, example)
