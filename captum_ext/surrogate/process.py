r"""Gaussian processes over windows, conditioned on one score at a time.

With k the kernel and n the noise in units of the squared amplitude, X the scored
windows and r their scores minus the mean, the posterior follows from

.. math::
    L L^T = k(X, X) + n I, \quad V = L^{-1} k(X, \cdot), \quad z = L^{-1} r,

    \mu = m + V^T z, \quad \sigma^2 \propto k(\cdot, \cdot) - \sum V^2.

A further window adds one row to V and z, and its row of L is a column of V: the cost of
a step is proportional to the size of V.
"""

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ext.surrogate.acquisition import (
    ACQUISITIONS,
    Acquisition,
    acquisition_values,
)
from captum_ext.surrogate.hyperparameters import (
    AMPLITUDE,
    AMPLITUDE_WEIGHT,
    Hyperparameters,
    matern,
)
from captum_ext.surrogate.windows import WindowGrid, box_means

if TYPE_CHECKING:
    from botorch.models import SingleTaskGP

__all__ = ["WindowProcess"]

# Standard deviations of the prior's scale and of the offset, in units of the amplitude
# if the prior's means over windows have root mean square 1.
_SCALE_STD, _OFFSET_STD = 1.0, 0.3
# Share of the range of acquisition values that breaks ties, in a random order.
_TIE = 1e-6


class WindowProcess:
    """B Gaussian processes, one per image, over the same grid of windows.

    A window is pending from the time that it is chosen until its score is observed.

    Args:
        grid (WindowGrid): Grid of the G windows.
        prior (Tensor): Prior maps, (B, H, W) or (B, T, H, W) float64; zero for none.
        capacity (int): Largest number N of windows per image.
        seed (int, optional): Seed of the order among windows with the same acquisition
            value. Default: 0

    Attributes:
        hyperparameters (Hyperparameters): Hyperparameters of the last fit.
        mean (Tensor): Posterior mean at all windows, (B, G).
        windows (Tensor): Indices of the scored windows in order, then of the pending
            ones, (B, n).
        scores (Tensor): Scores of the scored windows, (B, at most n).
    """

    mean: Tensor

    def __init__(
        self, grid: WindowGrid, prior: Tensor, capacity: int, seed: int = 0
    ) -> None:
        self._grid, self._prior, self._seed = grid, prior, seed
        self._prior_mean = box_means(prior, *grid.bounds(grid.parameters))
        n_processes, n_windows = self._prior_mean.shape
        unit = self._prior_mean.square().mean(1, keepdim=True).sqrt()
        self._scale_std = torch.where(unit > 0, _SCALE_STD / unit, 0)
        offset = torch.full_like(self._prior_mean, _OFFSET_STD)
        self._features = torch.stack([self._scale_std * self._prior_mean, offset], -1)
        self.hyperparameters = Hyperparameters.initial(
            n_processes, grid.parameters.shape[1]
        )
        self._V = self._prior_mean.new_empty(capacity, n_processes, n_windows)
        self._L = self._prior_mean.new_zeros(n_processes, capacity, capacity)
        self._z = self._prior_mean.new_empty(n_processes, capacity)
        generator = torch.Generator().manual_seed(seed)
        self._order = torch.rand(n_windows, generator=generator, dtype=torch.float64)
        self.windows = torch.empty(n_processes, 0, dtype=torch.long)
        self.scores = self._prior_mean.new_empty(n_processes, 0)
        self.condition()

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation at all windows, without noise, (B, G)."""
        return self._variance.clamp_min(1e-12).sqrt() * self.amplitude[:, None]

    @property
    def amplitude(self) -> Tensor:
        """Prior standard deviation of the process, estimated from the scores, (B,)."""
        n = self.scores.shape[1]
        total = AMPLITUDE_WEIGHT * AMPLITUDE**2 + self._z[:, :n].square().sum(1)
        return (total / (AMPLITUDE_WEIGHT + n)).sqrt()

    def start(self) -> Tensor:
        """Choose the windows (B,) of the highest mean, which become pending."""
        return self._choose_highest(self.mean)

    def choose(self, acquisition: Acquisition) -> Tensor:
        """Choose the windows of the highest acquisition value, which become pending.

        A pending window counts as if it had scored its posterior mean, so that the next
        one is chosen elsewhere.

        Args:
            acquisition (str or Callable): Name of an acquisition function, or a
                function of a BoTorch model that returns one of BoTorch's.

        Returns:
            *Tensor*: Indices (B,).
        """
        return self._choose_highest(self._acquisition_values(acquisition))

    def _choose_highest(self, values: Tensor) -> Tensor:
        spread = (values.amax(1) - values.amin(1)).clamp_min(1e-12)
        windows = (values + _TIE * spread[:, None] * self._order).argmax(1)
        self.add_pending(windows)
        return windows

    def add_pending(self, windows: Tensor) -> None:
        """Add pending windows.

        Args:
            windows (Tensor): Index of one window per image, (B,).
        """
        n = self.windows.shape[1]
        rows = torch.arange(len(windows))
        k = self._kernel_rows(windows[:, None])[:, 0]
        V = self._V[:n]
        known = V[:, rows, windows].T
        left = self._variance[rows, windows] + self.hyperparameters.noise
        corner = left.clamp_min(1e-12).sqrt()
        row = torch.einsum("bn,nbg->bg", known, V).neg_().add_(k)
        self._V[n] = row.div_(corner[:, None])
        self._L[:, n, :n], self._L[:, n, n] = known, corner
        self._variance -= self._V[n].square()
        self.windows = torch.cat([self.windows, windows[:, None]], 1)

    def observe(self, scores: Tensor) -> None:
        """Condition on the scores of the pending windows.

        Args:
            scores (Tensor): Scores (B, q) of the first q pending windows, in order.
        """
        for score in scores.unbind(1):
            n = self.scores.shape[1]
            at = self.windows[:, n]
            residual = score - self._prior_mean.gather(1, at[:, None])[:, 0]
            known = (self._L[:, n, :n] * self._z[:, :n]).sum(1)
            self._z[:, n] = (residual - known) / self._L[:, n, n]
            self.mean = torch.addcmul(self.mean, self._V[n], self._z[:, n, None])
            self.scores = torch.cat([self.scores, score[:, None]], 1)

    def refit(self) -> None:
        """Fit the hyperparameters to the scores and condition on all scores again."""
        fitted, failed = self.hyperparameters.fitted(
            self._grid.parameters[self.windows],
            _taken(self._features, self.windows),
            self.scores - self._prior_mean.gather(1, self.windows),
        )
        if failed.any():
            warnings.warn(
                f"The Gaussian process could not be fitted for examples "
                f"{failed.nonzero()[:, 0].tolist()}; they keep their last "
                f"hyperparameters.",
                stacklevel=2,
            )
        self.hyperparameters = fitted
        self.condition()

    def model(self, example: int) -> "SingleTaskGP":
        """Process of one example as a BoTorch model.

        Args:
            example (int): Index of the example.

        Returns:
            *SingleTaskGP* in eval mode.
        """
        from captum_ext.surrogate.model import window_model

        n = self.scores.shape[1]
        at = self.windows[example]
        # A pending window counts as if it had scored its posterior mean.
        scores = torch.cat([self.scores[example], self.mean[example, at[n:]]])
        return window_model(
            self._grid,
            self._prior[example],
            self._grid.parameters[at],
            scores,
            self.hyperparameters.lengthscale[example],
            float(self.hyperparameters.noise[example]),
            float(self.amplitude[example]),
            float(self._scale_std[example]),
            _OFFSET_STD,
        )

    def _acquisition_values(self, acquisition: Acquisition) -> Tensor:
        if isinstance(acquisition, str):
            scored = self.scores.shape[1] > 0
            best = self.scores.amax(1) if scored else self.mean.amax(1)
            function = ACQUISITIONS[acquisition]
            return function(self.mean, self.std, best[:, None])
        # BoTorch functions draw from the global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            return torch.stack(
                [
                    acquisition_values(
                        acquisition, self.model(b), self._grid.parameters
                    )
                    for b in range(len(self.windows))
                ]
            )

    def _kernel_rows(self, windows: Tensor) -> Tensor:
        """Covariance (B, n, G) of windows (B, n) with all windows."""
        X = self._grid.parameters
        everywhere = X.expand(len(windows), -1, -1)
        k = self._matern(X[windows], everywhere).to_dense()
        return k + _taken(self._features, windows) @ self._features.mT

    def condition(self) -> None:
        """Compute the posterior from scratch, without pending windows."""
        self._matern = matern(self.hyperparameters.lengthscale)
        n = self.windows.shape[1]
        self.mean = self._prior_mean.clone()
        self._variance = 1 + self._features.square().sum(-1)
        if not n:
            return
        k = self._kernel_rows(self.windows)
        among = k.gather(2, self.windows[:, None].expand(-1, n, -1))
        noise = self.hyperparameters.noise[:, None, None]
        self._L[:, :n, :n] = L = torch.linalg.cholesky(among + noise * torch.eye(n))
        V = torch.linalg.solve_triangular(L, k, upper=False)
        residuals = self.scores - self._prior_mean.gather(1, self.windows)
        z = torch.linalg.solve_triangular(L, residuals[..., None], upper=False)[..., 0]
        self._V[:n], self._z[:, :n] = V.transpose(0, 1), z
        self.mean += torch.einsum("bng,bn->bg", V, z)
        self._variance -= V.square().sum(1)


def _taken(features: Tensor, windows: Tensor) -> Tensor:
    """Features (B, n, 2) of windows (B, n), from those of all windows, (B, G, 2)."""
    return features.gather(1, windows[..., None].expand(-1, -1, features.shape[-1]))
