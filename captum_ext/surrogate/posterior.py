r"""Gaussian processes over candidates, conditioned on one score at a time.

With k the kernel and n the noise in units of the squared amplitude, X the scored
candidates and r their scores minus the mean, the posterior follows from

.. math::
    L L^T = k(X, X) + n I, \quad V = L^{-1} k(X, \cdot), \quad z = L^{-1} r,

    \mu = m + V^T z, \quad \sigma^2 \propto k(\cdot, \cdot) - \sum V^2.

A further candidate adds one row to V and z, and its row of L is a column of V: the cost
of a step is proportional to the size of V.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from captum_ext.surrogate.hyperparameters import AMPLITUDE, AMPLITUDE_WEIGHT

__all__ = ["CandidatePosterior"]


class CandidatePosterior(ABC):
    """Posterior of B Gaussian processes, one per example, over G candidates.

    A candidate is pending from the time that it is chosen until its score is observed.
    A subclass supplies the prior, in units of the squared amplitude:
    :meth:`prior_variance`, :meth:`prior_covariance` and :attr:`noise`. It sets what
    these need before it calls the constructor.

    Args:
        prior_mean (Tensor): Prior mean of all candidates, (B, G) float64.
        capacity (int): Largest number N of candidates per example.

    Attributes:
        prior_mean (Tensor): Prior mean of all candidates, (B, G).
        mean (Tensor): Posterior mean of all candidates, (B, G).
        chosen (Tensor): Indices of the scored candidates in order, then of the pending
            ones, (B, n).
        scores (Tensor): Scores of the scored candidates, (B, at most n).
    """

    mean: Tensor

    def __init__(self, prior_mean: Tensor, capacity: int) -> None:
        self.prior_mean = prior_mean
        n_processes, n_candidates = prior_mean.shape
        self._V = prior_mean.new_empty(capacity, n_processes, n_candidates)
        self._L = prior_mean.new_zeros(n_processes, capacity, capacity)
        self._z = prior_mean.new_empty(n_processes, capacity)
        self.chosen = torch.empty(n_processes, 0, dtype=torch.long)
        self.scores = prior_mean.new_empty(n_processes, 0)
        self.condition()

    @property
    @abstractmethod
    def noise(self) -> Tensor:
        """Variance of an observation, (B,)."""

    @abstractmethod
    def prior_variance(self) -> Tensor:
        """Prior variance of all candidates, (B, G), a new tensor."""

    @abstractmethod
    def prior_covariance(
        self, indices: Tensor, examples: slice = slice(None)
    ) -> Tensor:
        """Prior covariance of some candidates with all.

        Args:
            indices (Tensor): Indices (b, n) of candidates of b examples.
            examples (slice, optional): The b examples. Default: all

        Returns:
            *Tensor*: (b, n, G).
        """

    def prior_map_covariance(self, example: int) -> Tensor:
        """Prior covariance of all candidates with the P values of the map, (G, P).

        The values are those of the candidates themselves unless a subclass has others.
        """
        everything = torch.arange(self.prior_mean.shape[1])[None]
        return self.prior_covariance(everything, slice(example, example + 1))[0]

    @property
    def amplitude(self) -> Tensor:
        """Prior standard deviation of the process, estimated from the scores, (B,)."""
        n = self.scores.shape[1]
        total = AMPLITUDE_WEIGHT * AMPLITUDE**2 + self._z[:, :n].square().sum(1)
        return (total / (AMPLITUDE_WEIGHT + n)).sqrt()

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of all candidates, without noise, (B, G)."""
        return self._variance.clamp_min(1e-12).sqrt() * self.amplitude[:, None]

    def variance(self, example: int) -> Tensor:
        """Posterior variance of all candidates of one example, without noise, (G,).

        Args:
            example (int): Index of the example.
        """
        variance = self._variance[example].clamp_min(1e-12)
        return variance * self.amplitude[example].square()

    def covariance(self, example: int, indices: Tensor) -> Tensor:
        """Posterior covariance of some candidates with all.

        Args:
            example (int): Index of the example.
            indices (Tensor): Indices (n,) of candidates.

        Returns:
            *Tensor*: (n, G), in the unit of the squared score.
        """
        prior = self.prior_covariance(indices[None], slice(example, example + 1))[0]
        V = self._V[: self.chosen.shape[1], example]
        return (prior - V[:, indices].T @ V) * self.amplitude[example].square()

    def map_covariance(self, example: int, indices: Tensor) -> Tensor:
        """Posterior covariance of some candidates with the values of the map.

        Args:
            example (int): Index of the example.
            indices (Tensor): Indices (n,) of candidates.

        Returns:
            *Tensor*: (n, P), in the unit of the squared score.
        """
        of_map = self._map_covariance(example)
        V = self._V[: self.chosen.shape[1], example]
        posterior = of_map.prior[indices] - V[:, indices].T @ of_map.V
        return posterior * self.amplitude[example].square()

    def squared_map_covariance(self, example: int) -> Tensor:
        """Sum of the squares of :meth:`map_covariance` over the map, (G,)."""
        squared = self._map_covariance(example).squared.clamp_min(0)
        return squared * self.amplitude[example].square().square()

    def _map_covariance(self, example: int) -> "_MapCovariance":
        n = self.chosen.shape[1]
        V, L = self._V[:n, example], self._L[example, :n, :n]
        if example not in self._of_maps:
            prior = self.prior_map_covariance(example)
            self._of_maps[example] = _MapCovariance(prior, V, L, self.chosen[example])
        self._of_maps[example].update(V, L, self.chosen[example])
        return self._of_maps[example]

    def add_pending(self, indices: Tensor) -> None:
        """Add pending candidates.

        Args:
            indices (Tensor): Index of one candidate per example, (B,).
        """
        n = self.chosen.shape[1]
        rows = torch.arange(len(indices))
        k = self.prior_covariance(indices[:, None])[:, 0]
        V = self._V[:n]
        known = V[:, rows, indices].T
        left = self._variance[rows, indices] + self.noise
        corner = left.clamp_min(1e-12).sqrt()
        row = torch.einsum("bn,nbg->bg", known, V).neg_().add_(k)
        self._V[n] = row.div_(corner[:, None])
        self._L[:, n, :n], self._L[:, n, n] = known, corner
        self._variance -= self._V[n].square()
        self.chosen = torch.cat([self.chosen, indices[:, None]], 1)

    def observe(self, scores: Tensor) -> None:
        """Condition on the scores of the pending candidates.

        Args:
            scores (Tensor): Scores (B, q) of the first q pending candidates, in order.
        """
        for score in scores.unbind(1):
            n = self.scores.shape[1]
            at = self.chosen[:, n]
            residual = score - self.prior_mean.gather(1, at[:, None])[:, 0]
            known = (self._L[:, n, :n] * self._z[:, :n]).sum(1)
            self._z[:, n] = (residual - known) / self._L[:, n, n]
            self.mean = torch.addcmul(self.mean, self._V[n], self._z[:, n, None])
            self.scores = torch.cat([self.scores, score[:, None]], 1)

    def condition(self) -> None:
        """Compute the posterior from scratch, without pending candidates."""
        n = self.chosen.shape[1]
        self.mean = self.prior_mean.clone()
        self._variance = self.prior_variance()
        self._of_maps: dict[int, _MapCovariance] = {}
        if not n:
            return
        k = self.prior_covariance(self.chosen)
        among = k.gather(2, self.chosen[:, None].expand(-1, n, -1))
        noise = self.noise[:, None, None]
        self._L[:, :n, :n] = L = torch.linalg.cholesky(among + noise * torch.eye(n))
        V = torch.linalg.solve_triangular(L, k, upper=False)
        residuals = self.scores - self.prior_mean.gather(1, self.chosen)
        z = torch.linalg.solve_triangular(L, residuals[..., None], upper=False)[..., 0]
        self._V[:n], self._z[:, :n] = V.transpose(0, 1), z
        self.mean += torch.einsum("bng,bn->bg", V, z)
        self._variance -= V.square().sum(1)


class _MapCovariance:
    """Posterior covariance of the candidates of an example with its map.

    Args:
        prior (Tensor): Prior covariance of the candidates with the map, (G, P).
        V (Tensor): Rows of V for the candidates, (n, G).
        L (Tensor): L, (n, n).
        chosen (Tensor): Indices of the candidates in these rows, (n,).

    Attributes:
        V (Tensor): Rows of V for the values of the map, (n, P).
        squared (Tensor): Sum of the squares of the covariance over the map, (G,).
    """

    def __init__(self, prior: Tensor, V: Tensor, L: Tensor, chosen: Tensor) -> None:
        self.prior = prior
        self.V = torch.linalg.solve_triangular(L, prior[chosen], upper=False)
        self.squared = (prior - V.T @ self.V).square().sum(1)

    def update(self, V: Tensor, L: Tensor, chosen: Tensor) -> None:
        """Add the rows that V (n, G) has more; L (n, n), chosen (n,)."""
        for n in range(len(self.V), len(V)):
            row = (self.prior[chosen[n]] - L[n, :n] @ self.V) / L[n, n]
            # The covariance C loses V row^T, which turns the sum of its squares into
            # sum C^2 - 2 V (C row) + V^2 |row|^2.
            product = self.prior @ row - V[:n].T @ (self.V @ row)
            self.squared = self.squared + V[n] * (V[n] * (row @ row) - 2 * product)
            self.V = torch.cat([self.V, row[None]])
