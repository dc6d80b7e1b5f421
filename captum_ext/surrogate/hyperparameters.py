r"""The kernel over windows, and how its settings are found.

All settings that are considered, for all examples, are one batch of Gaussian processes;
each example gets the one that its scores make most likely. There is nothing to
converge, and an example's settings do not depend on the others of its batch.
"""

from typing import NamedTuple

import torch
from gpytorch.kernels import MaternKernel
from torch import Tensor

__all__ = ["AMPLITUDE", "AMPLITUDE_WEIGHT", "Hyperparameters", "log_evidence", "matern"]

#: Amplitude of the process a priori, that of probabilities, and the number of scores
#: that it counts as.
AMPLITUDE, AMPLITUDE_WEIGHT = 0.2, 2.0

# The settings that are most likely a priori: lengthscales of places and times, and of
# the logarithms of sides and durations; the noise.
_LENGTH, _LOG_LENGTH, _NOISE = 0.3, 0.8, 0.03
# Factors of these that a fit chooses among, and the deviation of their logarithms.
_LENGTH_FACTORS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
_LOG_LENGTH_FACTORS = (0.5, 1.0, 2.0)
_NOISE_FACTORS = (0.3, 1.0, 4.0)
_FACTOR_STD = 0.5


class Hyperparameters(NamedTuple):
    """Settings of the kernels of B processes.

    Args:
        lengthscale (Tensor): Along each parameter of a window, (B, d).
        noise (Tensor): Variance of an observation, in units of the squared amplitude,
            (B,).
    """

    lengthscale: Tensor
    noise: Tensor

    @classmethod
    def candidates(cls, n_parameters: int) -> "Hyperparameters":
        """Those that a fit chooses among.

        Args:
            n_parameters (int): d, places first, the logarithms of lengths behind them.
        """
        factors = _factors()
        n_logs = n_parameters // 2
        along = [0] * (n_parameters - n_logs) + [1] * n_logs
        scales = torch.tensor([_LENGTH, _LOG_LENGTH], dtype=torch.float64)
        return cls((scales * factors[:, :2])[:, along], _NOISE * factors[:, 2])

    @classmethod
    def initial(cls, n_processes: int, n_parameters: int) -> "Hyperparameters":
        """The settings that are most likely before any score.

        Args:
            n_processes (int): B.
            n_parameters (int): d.
        """
        most_likely = _factors().log().square().sum(1).argmin()
        lengthscale, noise = cls.candidates(n_parameters)
        return cls(
            lengthscale[most_likely].repeat(n_processes, 1),
            noise[most_likely].repeat(n_processes),
        )

    def fitted(
        self, parameters: Tensor, features: Tensor, residuals: Tensor
    ) -> tuple["Hyperparameters", Tensor]:
        """The most likely settings of each process.

        Args:
            parameters (Tensor): Of the windows that were tried, (B, N, d).
            features (Tensor): Whose products are added to the kernel, (B, N, F).
            residuals (Tensor): Scores minus the mean, (B, N).

        Returns:
            *tuple[Hyperparameters, Tensor]*: Settings, and for which processes no
            candidate has a likelihood, (B,) bool; these keep what they have.
        """
        n_processes, n = residuals.shape
        lengthscale, noise = self.candidates(parameters.shape[2])
        kernel = matern(lengthscale.expand(n_processes, -1, -1))
        k = kernel(parameters[:, None].expand(-1, len(noise), -1, -1)).to_dense()
        k = k + (features @ features.mT)[:, None] + noise[:, None, None] * torch.eye(n)
        evidence = log_evidence(k, residuals[:, None].expand(-1, len(noise), -1))
        evidence = evidence - (_factors().log() / _FACTOR_STD).square().sum(1) / 2
        failed = ~torch.isfinite(evidence).any(1)
        best = evidence.nan_to_num(-torch.inf).argmax(1)
        fitted = Hyperparameters(
            torch.where(failed[:, None], self.lengthscale, lengthscale[best]),
            torch.where(failed, self.noise, noise[best]),
        )
        return fitted, failed


def _factors() -> Tensor:
    """Factors (n, 3) of the lengthscales of places and of logarithms, and the noise."""
    choices = (_LENGTH_FACTORS, _LOG_LENGTH_FACTORS, _NOISE_FACTORS)
    return torch.cartesian_prod(*(torch.tensor(c).double() for c in choices))


def matern(lengthscale: Tensor) -> MaternKernel:
    """Matern 3/2 kernels with a lengthscale for each parameter.

    Args:
        lengthscale (Tensor): (..., d).

    Returns:
        *MaternKernel* of batch shape (...), without gradients.
    """
    kernel = MaternKernel(
        nu=1.5, ard_num_dims=lengthscale.shape[-1], batch_shape=lengthscale.shape[:-1]
    )
    kernel = kernel.to(lengthscale).requires_grad_(False)
    kernel.lengthscale = lengthscale[..., None, :]
    return kernel


def log_evidence(covariance: Tensor, residuals: Tensor) -> Tensor:
    r"""Log density of residuals, the amplitude integrated out, up to a constant.

    With an inverse gamma prior on the squared amplitude they are Student's t.

    Args:
        covariance (Tensor): In units of the squared amplitude, noise included,
            (..., N, N).
        residuals (Tensor): (..., N).

    Returns:
        *Tensor*: (...), NaN where the covariance is not positive definite.

    Examples::

        >>> log_evidence(torch.eye(2), torch.ones(2))
        tensor(-6.5162)
    """
    n = residuals.shape[-1]
    L, failed = torch.linalg.cholesky_ex(covariance)
    z = torch.linalg.solve_triangular(L, residuals[..., None], upper=False)[..., 0]
    ratio = z.square().sum(-1) / (AMPLITUDE_WEIGHT * AMPLITUDE**2)
    half_log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    evidence = -half_log_det - (AMPLITUDE_WEIGHT + n) / 2 * torch.log1p(ratio)
    return torch.where(failed == 0, evidence, torch.nan)
