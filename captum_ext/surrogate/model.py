"""Gaussian process over windows as a BoTorch model."""

import torch
from botorch.models import SingleTaskGP
from botorch.settings import validate_input_scaling
from gpytorch.kernels import MaternKernel, ScaleKernel
from torch import Tensor

from captum_ext.surrogate.prior_mean import PriorMean, TrendKernel
from captum_ext.surrogate.windows import WindowGrid

__all__ = ["window_model"]


def window_model(
    grid: WindowGrid,
    prior: Tensor,
    parameters: Tensor,
    scores: Tensor,
    lengthscale: Tensor,
    noise: float,
    amplitude: float,
    scale_std: float,
    offset_std: float,
) -> SingleTaskGP:
    """A BoTorch model of window scores, with fixed hyperparameters.

    Args:
        grid (WindowGrid): Grid that defines the parameters of a window.
        prior (Tensor): Prior map, (H, W) or (T, H, W).
        parameters (Tensor): Parameters of the scored windows, (N, d).
        scores (Tensor): Scores of these windows, (N,).
        lengthscale (Tensor): Lengthscales of the Matern 3/2 kernel, (d,).
        noise (float): Variance of an observation, in units of the squared amplitude.
        amplitude (float): Standard deviation of the process.
        scale_std (float): Standard deviation of the prior's scale, in units of the
            amplitude.
        offset_std (float): Standard deviation of the offset, in the same units.

    Returns:
        *SingleTaskGP* in eval mode.

    Examples::

        >>> from captum_ext.surrogate import WindowGrid
        >>> grid = WindowGrid((8, 8), sides=(3,), durations=(), stride=4)
        >>> model = window_model(
        ...     grid, torch.zeros(8, 8).double(), grid.parameters[:1],
        ...     torch.ones(1).double(), torch.ones(3).double(), 1e-6, 1.0, 0.0, 0.0,
        ... )
        >>> model.posterior(grid.parameters[:1]).mean.detach()
        tensor([[1.0000]], dtype=torch.float64)
    """
    mean = PriorMean(grid, prior)
    matern = MaternKernel(nu=1.5, ard_num_dims=len(lengthscale))
    trend = TrendKernel(mean, scale_std, offset_std)
    kernel = ScaleKernel(matern + trend).double()
    matern.lengthscale = lengthscale
    kernel.outputscale = amplitude**2
    with validate_input_scaling(False):
        model = SingleTaskGP(
            parameters,
            scores[:, None],
            torch.full_like(scores[:, None], noise * amplitude**2),
            covar_module=kernel,
            mean_module=mean,
            outcome_transform=None,
        )
    return model.eval()
