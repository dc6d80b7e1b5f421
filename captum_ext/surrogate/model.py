"""Gaussian process over candidates as a BoTorch model."""

import copy
from typing import Any

import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import FantasizeMixin, Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from linear_operator.operators import DenseLinearOperator
from torch import Tensor

from captum_ext.surrogate.posterior import CandidatePosterior

__all__ = ["CandidateModel"]

# Added to the diagonal of the covariance of several candidates, as a share of the
# largest prior variance: without it Cholesky decompositions fail by rounding.
_JITTER = 1e-9


class CandidateModel(Model, FantasizeMixin):
    """Posterior of one example of a process as a BoTorch model.

    Points are indices of candidates, stored as floating-point numbers: a batch of q
    points is (..., q, 1). A pending candidate counts as if it had scored its posterior
    mean.

    Args:
        process (CandidatePosterior): Processes of B examples.
        example (int): Index of the example.

    Attributes:
        process (CandidatePosterior): The processes.
        example (int): Index of the example.
        mean (Tensor): Posterior mean of all candidates, (..., G).
        candidates (Tensor): All points, (G, 1).
        train_inputs (tuple[Tensor]): Points that were scored or are pending, (n, 1).
        train_targets (Tensor): Their scores, (n,).

    Examples::

        >>> from captum_ext.surrogate import WindowGrid, WindowProcess
        >>> grid = WindowGrid((8, 8), sides=(3,), durations=(), stride=4)
        >>> process = WindowProcess(grid, torch.zeros(1, 8, 8).double(), capacity=1)
        >>> CandidateModel(process, 0).posterior(torch.tensor([[0.0], [3.0]])).mean
        tensor([[0.],
                [0.]], dtype=torch.float64)
    """

    num_outputs = 1
    # BoTorch asks for it; the noise of observations is part of the posterior.
    likelihood = None

    def __init__(self, process: CandidatePosterior, example: int) -> None:
        super().__init__()
        self.process, self.example = process, example
        self.mean = process.mean[example]
        self._variance = process.variance(example)
        self._noise = process.noise[example] * process.amplitude[example].square()
        # Rows that further observations add to V, (..., m, G).
        self._V = self.mean.new_empty(0, len(self.mean))
        at, n = process.chosen[example], process.scores.shape[1]
        self.train_inputs = (at[:, None].double(),)
        self.train_targets = torch.cat([process.scores[example], self.mean[at[n:]]])

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of a batch of conditioned models, () before."""
        return self.mean.shape[:-1]

    @property
    def candidates(self) -> Tensor:
        """All points, (G, 1)."""
        return torch.arange(self.mean.shape[-1], dtype=torch.float64)[:, None]

    def posterior(  # type: ignore[override]
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Any:
        """Joint posterior of q points.

        Args:
            X (Tensor): Points, (..., q, 1).
            output_indices (list[int], optional): Not used: there is one output.
                Default: None
            observation_noise (bool or Tensor, optional): Whether the posterior is that
                of observations; a tensor (..., q, 1) is the variance of their noise.
                Default: False
            posterior_transform (PosteriorTransform, optional): Applied to the
                posterior. Default: None

        Returns:
            *GPyTorchPosterior* of a batch that broadcasts ``batch_shape`` with that of
            X, or what ``posterior_transform`` makes of it.
        """
        at = X[..., 0].long()
        shape = torch.broadcast_shapes(self.batch_shape, at.shape[:-1])
        at = at.expand(*shape, -1)
        if at.shape[-1] == 1:
            covariance = _taken(self._variance, at)[..., None]
        else:
            covariance = self._covariance(at)
        if observation_noise is not False:
            noise = self._noise
            if isinstance(observation_noise, Tensor):
                noise = observation_noise[..., 0]
            covariance = covariance + torch.diag_embed(noise * torch.ones_like(at))
        normal = MultivariateNormal(
            _taken(self.mean, at), DenseLinearOperator(covariance)
        )
        posterior = GPyTorchPosterior(normal)
        if posterior_transform is not None:
            return posterior_transform(posterior)
        return posterior

    def condition_on_observations(
        self, X: Tensor, Y: Tensor, noise: Tensor | None = None, **kwargs: Any
    ) -> "CandidateModel":
        """Condition on further observations; the amplitude stays.

        Args:
            X (Tensor): Points, (..., n, 1).
            Y (Tensor): Their scores, (..., n, 1), which may have further batch axes in
                front.
            noise (Tensor, optional): Variance of their noise, (..., n, 1).
                Default: None (that of the process)
            **kwargs: Not used.

        Returns:
            *CandidateModel* of batch shape (...).
        """
        model = self
        for i in range(X.shape[-2]):
            variance = self._noise if noise is None else noise[..., i, 0]
            model = model._conditioned(X[..., i, 0].long(), Y[..., i, 0], variance)
        return model

    def _conditioned(self, at: Tensor, y: Tensor, noise: Tensor) -> "CandidateModel":
        """Condition on scores y (..., *b) of one candidate each, of indices (*b)."""
        rows = self.process.covariance(self.example, at.flatten())
        row = rows.unflatten(0, at.shape) if at.dim() else rows[0]
        known = _taken(self._V, at[..., None, None])
        row = row - (known * self._V).sum(-2)
        corner = (_taken(self._variance, at[..., None]) + noise[..., None]).sqrt()
        v = row / corner
        step = (y[..., None] - _taken(self.mean, at[..., None])) / corner
        model = copy.copy(self)
        model.mean = torch.addcmul(self.mean, step, v)
        model._variance = self._variance - v.square()
        model._V = _joined(self._V, v[..., None, :])
        model.train_inputs = (_joined(self.train_inputs[0], at[..., None, None]),)
        model.train_targets = _joined(self.train_targets[..., None], y[..., None, None])
        model.train_targets = model.train_targets[..., 0]
        return model

    def _covariance(self, at: Tensor) -> Tensor:
        """Posterior covariance (..., q, q) among candidates (..., q)."""
        unique, inverse = at.unique(return_inverse=True)
        among = self.process.covariance(self.example, unique)[:, unique]
        covariance = among[inverse[..., None], inverse[..., None, :]]
        V = _taken(self._V, at[..., None, :])
        prior_variance = self.process.prior_variance()[self.example].amax()
        jitter = _JITTER * prior_variance * self.process.amplitude[self.example] ** 2
        return covariance - V.mT @ V + jitter * torch.eye(at.shape[-1])


def _taken(values: Tensor, at: Tensor) -> Tensor:
    """Values (..., q) at indices (..., q) of values (..., G)."""
    shape = torch.broadcast_shapes(values.shape[:-1], at.shape[:-1])
    return values.expand(*shape, -1).gather(-1, at.expand(*shape, -1))


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """Rows (..., n, d) and (..., m, d) as (..., n + m, d)."""
    shape = torch.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    both = (rows.expand(*shape, -1, -1) for rows in (first, second))
    return torch.cat(tuple(both), -2)
