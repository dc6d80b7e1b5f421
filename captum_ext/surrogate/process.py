r"""Gaussian processes over windows that grow by one observation at a time.

With k the kernel in units of the amplitude, n the noise in the same, X the windows that
were tried and r their scores minus the mean, all that is ever needed is

.. math::
    L L^T = k(X, X) + n I, \quad V = L^{-1} k(X, \cdot), \quad z = L^{-1} r,

    \mu = m + V^T z, \quad \sigma^2 \propto k(\cdot, \cdot) - \sum V^2.

A further window is one more row of V and z, and the new row of L stands in V already:
a step costs as much as V has numbers.
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

# Deviations of the prior's scale and of the offset, in units of the amplitude where the
# prior's mean over windows has root mean square 1.
_SCALE_STD, _OFFSET_STD = 1.0, 0.3
# Windows that are worth the same are tried in an order of their own.
_TIE = 1e-6


class WindowProcess:
    """B Gaussian processes, one an image, over the same grid of windows.

    Args:
        grid (WindowGrid): The G windows.
        prior (Tensor): Prior maps, (B, H, W) or (B, T, H, W) float64; zero for none.
        capacity (int): Number N of windows of an image that will be tried.
        seed (int, optional): Of the order of windows that are worth the same.
            Default: 0

    Attributes:
        hyperparameters (Hyperparameters): As they were fitted last.
        mean (Tensor): Of the posterior at all windows, (B, G).
        windows (Tensor): Indices of those that were tried, in order, (B, n).
        scores (Tensor): What they scored, (B, n); shorter while scores are awaited.
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
    def deviation(self) -> Tensor:
        """Of the posterior at all windows, without noise, (B, G)."""
        return self._variance.clamp_min(1e-12).sqrt() * self.amplitude[:, None]

    @property
    def amplitude(self) -> Tensor:
        """Deviation of the process before any observation, as scores show it, (B,)."""
        n = self.scores.shape[1]
        total = AMPLITUDE_WEIGHT * AMPLITUDE**2 + self._z[:, :n].square().sum(1)
        return (total / (AMPLITUDE_WEIGHT + n)).sqrt()

    def start(self) -> Tensor:
        """The windows of the highest mean, (B,) indices, which now await a score."""
        return self._best(self.mean)

    def choose(self, acquisition: Acquisition) -> Tensor:
        """The windows that are worth most, (B,) indices, which now await a score.

        Until it comes the window is taken to score what is expected of it, so that the
        next one is chosen elsewhere.

        Args:
            acquisition (str or Callable): A name, or what makes a BoTorch acquisition
                function of a BoTorch model.
        """
        return self._best(self._worth(acquisition))

    def _best(self, worth: Tensor) -> Tensor:
        spread = (worth.amax(1) - worth.amin(1)).clamp_min(1e-12)
        windows = (worth + _TIE * spread[:, None] * self._order).argmax(1)
        self.expect(windows)
        return windows

    def expect(self, windows: Tensor) -> None:
        """Take note of windows (B,) that are being tried."""
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
        """Learn the scores (B, q) of the q windows that await one, in order."""
        for score in scores.unbind(1):
            n = self.scores.shape[1]
            at = self.windows[:, n]
            residual = score - self._prior_mean.gather(1, at[:, None])[:, 0]
            known = (self._L[:, n, :n] * self._z[:, :n]).sum(1)
            self._z[:, n] = (residual - known) / self._L[:, n, n]
            self.mean = torch.addcmul(self.mean, self._V[n], self._z[:, n, None])
            self.scores = torch.cat([self.scores, score[:, None]], 1)

    def refit(self) -> None:
        """Choose the hyperparameters again, by what the scores say of them."""
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
        """The process of one example as a BoTorch model, for any of BoTorch's uses."""
        from captum_ext.surrogate.model import window_model

        n = self.scores.shape[1]
        at = self.windows[example]
        # What awaits a score is taken to score what is expected.
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

    def _worth(self, acquisition: Acquisition) -> Tensor:
        if isinstance(acquisition, str):
            seen = self.scores.shape[1] > 0
            best = self.scores.amax(1) if seen else self.mean.amax(1)
            function = ACQUISITIONS[acquisition]
            return function(self.mean, self.deviation, best[:, None])
        # What a BoTorch function draws comes from the global generator.
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
        """Covariance (B, n, G) of windows (B, n) with all."""
        X = self._grid.parameters
        everywhere = X.expand(len(windows), -1, -1)
        k = self._matern(X[windows], everywhere).to_dense()
        return k + _taken(self._features, windows) @ self._features.mT

    def condition(self) -> None:
        """From scratch, on all that was tried; all of it has to be scored."""
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
    """Features (B, n, 2) of windows (B, n) among those of all, (B, G, 2)."""
    return features.gather(1, windows[..., None].expand(-1, -1, features.shape[-1]))
