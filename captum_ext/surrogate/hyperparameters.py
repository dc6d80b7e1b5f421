r"""Hyperparameters of the kernel over windows, fitted by a search over candidates.

All candidates for all examples are one batch of Gaussian processes; each example gets
the candidate of the largest posterior density given its scores. No optimizer has to
converge, and the choice for an example does not depend on the others of its batch.

Those of the authors of BOREx are fitted as in their code, by L-BFGS-B within bounds.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from gpytorch.kernels import MaternKernel
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

__all__ = [
    "AMPLITUDE",
    "AMPLITUDE_WEIGHT",
    "Hyperparameters",
    "log_marginal_likelihood",
    "matern",
]

#: Prior amplitude of the process, a typical one for probabilities, and the number of
#: scores that this prior counts as.
AMPLITUDE, AMPLITUDE_WEIGHT = 0.2, 2.0

# Modes of the prior: lengthscale of positions and times, lengthscale of the logarithms
# of sides and durations, noise.
_LENGTH, _LOG_LENGTH, _NOISE = 0.3, 0.8, 0.03
# Candidate factors of these, and the prior standard deviation of their logarithms.
_LENGTH_FACTORS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
_LOG_LENGTH_FACTORS = (0.5, 1.0, 2.0)
_NOISE_FACTORS = (0.3, 1.0, 4.0)
_FACTOR_STD = 0.5

# Values of the authors' code: initial lengthscale of positions and of half-sides in
# pixels of an image of 224, bounds of both, and noise. The amplitude is 1.
_AUTHORS_LENGTH, _AUTHORS_SIDE_LENGTH, _AUTHORS_NOISE = 12.0, 10.0, 0.01
_AUTHORS_BOUNDS = (1.0, 20.0)


class Hyperparameters(NamedTuple):
    """Hyperparameters of the kernels of B processes.

    Args:
        lengthscale (Tensor): Lengthscale of each parameter of a window, (B, d).
        noise (Tensor): Variance of an observation, in units of the squared amplitude,
            (B,).
    """

    lengthscale: Tensor
    noise: Tensor

    @classmethod
    def candidates(cls, n_parameters: int) -> "Hyperparameters":
        """All candidates of a fit.

        Args:
            n_parameters (int): Number of parameters d: positions, then the logarithms
                of lengths.
        """
        factors = _factors()
        n_logs = n_parameters // 2
        along = [0] * (n_parameters - n_logs) + [1] * n_logs
        scales = torch.tensor([_LENGTH, _LOG_LENGTH], dtype=torch.float64)
        return cls((scales * factors[:, :2])[:, along], _NOISE * factors[:, 2])

    @classmethod
    def initial(cls, n_processes: int, n_parameters: int) -> "Hyperparameters":
        """Mode of the prior, for use before the first fit.

        Args:
            n_processes (int): Number of processes B.
            n_parameters (int): Number of parameters d.
        """
        most_likely = _factors().log().square().sum(1).argmin()
        lengthscale, noise = cls.candidates(n_parameters)
        return cls(
            lengthscale[most_likely].repeat(n_processes, 1),
            noise[most_likely].repeat(n_processes),
        )

    @classmethod
    def of_authors(cls, n_processes: int, n_parameters: int) -> "Hyperparameters":
        """Values of the authors' code, for use before the first fit.

        Args:
            n_processes (int): Number of processes B.
            n_parameters (int): Number of parameters d: positions, then lengths.
        """
        n_lengths = n_parameters // 2
        n_positions = n_parameters - n_lengths
        lengths = [_AUTHORS_LENGTH] * n_positions + [_AUTHORS_SIDE_LENGTH] * n_lengths
        lengthscale = torch.tensor(lengths, dtype=torch.float64).repeat(n_processes, 1)
        return cls(lengthscale, torch.full_like(lengthscale[:, 0], _AUTHORS_NOISE))

    def fitted(
        self, parameters: Tensor, features: Tensor, residuals: Tensor
    ) -> tuple["Hyperparameters", Tensor]:
        """Fit each process: take the candidate of the largest posterior density.

        Args:
            parameters (Tensor): Parameters of the scored windows, (B, N, d).
            features (Tensor): Features whose products are added to the kernel,
                (B, N, F).
            residuals (Tensor): Scores minus the mean, (B, N).

        Returns:
            *tuple[Hyperparameters, Tensor]*: Fitted hyperparameters, and which
            processes failed, (B,) bool: no candidate has a finite density, and they
            keep their hyperparameters.
        """
        n_processes, n = residuals.shape
        lengthscale, noise = self.candidates(parameters.shape[2])
        kernel = matern(lengthscale.expand(n_processes, -1, -1))
        k = kernel(parameters[:, None].expand(-1, len(noise), -1, -1)).to_dense()
        k = k + (features @ features.mT)[:, None] + noise[:, None, None] * torch.eye(n)
        repeated = residuals[:, None].expand(-1, len(noise), -1)
        log_prior = -(_factors().log() / _FACTOR_STD).square().sum(1) / 2
        log_density = log_marginal_likelihood(k, repeated) + log_prior
        failed = ~torch.isfinite(log_density).any(1)
        best = log_density.nan_to_num(-torch.inf).argmax(1)
        fitted = Hyperparameters(
            torch.where(failed[:, None], self.lengthscale, lengthscale[best]),
            torch.where(failed, self.noise, noise[best]),
        )
        return fitted, failed

    def fitted_in_bounds(
        self, parameters: Tensor, features: Tensor, residuals: Tensor
    ) -> tuple["Hyperparameters", Tensor]:
        """Fit each process as the authors do: maximize its likelihood within bounds.

        The amplitude is 1, and the noise is kept.

        Args:
            parameters (Tensor): Parameters of the scored windows, (B, N, d).
            features (Tensor): Features whose products are added to the kernel,
                (B, N, F).
            residuals (Tensor): Scores minus the mean, (B, N).

        Returns:
            *tuple[Hyperparameters, Tensor]*: Fitted hyperparameters, and which
            processes failed, (B,) bool; they keep their hyperparameters.
        """
        start = self.of_authors(len(residuals), parameters.shape[2]).lengthscale
        added = features @ features.mT
        added = added + self.noise[:, None, None] * torch.eye(residuals.shape[1])
        fits = [
            _most_likely(*each) for each in zip(parameters, added, residuals, start)
        ]
        lengthscale = torch.stack([torch.from_numpy(fit.x).exp() for fit in fits])
        failed = torch.tensor([not np.isfinite(fit.fun) for fit in fits])
        kept = torch.where(failed[:, None], self.lengthscale, lengthscale)
        return Hyperparameters(kept, self.noise), failed


def _most_likely(X: Tensor, added: Tensor, residuals: Tensor, start: Tensor) -> Any:
    """Logarithms of the lengthscales of largest likelihood, as SciPy's result.

    Args:
        X (Tensor): Parameters (N, d).
        added (Tensor): What is added to the Matern 3/2 kernel, (N, N).
        residuals (Tensor): Scores minus the mean, (N,).
        start (Tensor): First lengthscales (d,).
    """
    squares = (X[:, None] - X).square()

    def loss(log_lengthscale: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = squares / torch.from_numpy(log_lengthscale).exp().square()
        distance = (3 * scaled.sum(2)).sqrt()
        decay = (-distance).exp()
        L, failed = torch.linalg.cholesky_ex((1 + distance) * decay + added)
        if failed:
            return np.inf, np.zeros(len(log_lengthscale))
        weights = torch.cholesky_solve(residuals[:, None], L)
        value = residuals @ weights[:, 0] / 2 + L.diagonal().log().sum()
        slope = torch.cholesky_inverse(L) - weights @ weights.T
        # The kernel's derivative by the logarithm of lengthscale d is
        # 3 exp(-distance) scaled[d].
        gradient = 1.5 * torch.einsum("ij,ij,ijd->d", slope, decay, scaled)
        return float(value), gradient.numpy()

    bounds = [tuple(np.log(_AUTHORS_BOUNDS))] * len(start)
    return minimize(
        loss, start.log().numpy(), jac=True, method="L-BFGS-B", bounds=bounds
    )


def _factors() -> Tensor:
    """Candidate factors (n, 3) of the two lengthscales and of the noise."""
    choices = (_LENGTH_FACTORS, _LOG_LENGTH_FACTORS, _NOISE_FACTORS)
    return torch.cartesian_prod(*(torch.tensor(c).double() for c in choices))


def matern(lengthscale: Tensor) -> MaternKernel:
    """Matern 3/2 kernels with one lengthscale per parameter.

    Args:
        lengthscale (Tensor): Lengthscales (..., d).

    Returns:
        *MaternKernel* of batch shape (...), without gradients.
    """
    kernel = MaternKernel(
        nu=1.5, ard_num_dims=lengthscale.shape[-1], batch_shape=lengthscale.shape[:-1]
    )
    kernel = kernel.to(lengthscale).requires_grad_(False)
    kernel.lengthscale = lengthscale[..., None, :]
    return kernel


def log_marginal_likelihood(covariance: Tensor, residuals: Tensor) -> Tensor:
    r"""Log density of residuals, with the amplitude integrated out, up to a constant.

    The prior of the squared amplitude is an inverse gamma distribution, which makes the
    density a Student's t.

    Args:
        covariance (Tensor): Covariance in units of the squared amplitude, noise
            included, (..., N, N).
        residuals (Tensor): Scores minus the mean, (..., N).

    Returns:
        *Tensor*: (...), NaN if the covariance is not positive definite.

    Examples::

        >>> log_marginal_likelihood(torch.eye(2), torch.ones(2))
        tensor(-6.5162)
    """
    n = residuals.shape[-1]
    L, failed = torch.linalg.cholesky_ex(covariance)
    z = torch.linalg.solve_triangular(L, residuals[..., None], upper=False)[..., 0]
    ratio = z.square().sum(-1) / (AMPLITUDE_WEIGHT * AMPLITUDE**2)
    half_log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_density = -half_log_det - (AMPLITUDE_WEIGHT + n) / 2 * torch.log1p(ratio)
    return torch.where(failed == 0, log_density, torch.nan)
