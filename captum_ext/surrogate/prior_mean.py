"""Prior map as the mean function, and a kernel for its unknown scale and offset."""

from typing import Any

import torch
from gpytorch.kernels import Kernel
from gpytorch.means import Mean
from torch import Tensor

from captum_ext.surrogate.windows import WindowGrid, box_means

__all__ = ["PriorMean", "TrendKernel"]


class PriorMean(Mean):
    r"""Mean function: the mean of a prior map over the window.

    .. math::
        m(\lambda, r) = \frac{1}{|W|} \sum_{\mu \in W(\lambda, r)} i_0(\mu).

    Args:
        grid (WindowGrid): Grid that defines the parameters of a window.
        prior (Tensor): Prior map i_0, (H, W) or (T, H, W), float64.

    Examples::

        >>> from captum_ext.surrogate import WindowGrid
        >>> grid = WindowGrid((8, 8), sides=(3,), durations=(), stride=4)
        >>> PriorMean(grid, torch.ones(8, 8).double())(grid.parameters)
        tensor([1., 1., 1., 1.], dtype=torch.float64)
    """

    def __init__(self, grid: WindowGrid, prior: Tensor) -> None:
        super().__init__()
        self._grid = grid
        self.register_buffer("prior", prior)

    def forward(self, x: Tensor) -> Tensor:
        """Mean (..., n) at windows of parameters (..., n, d)."""
        return box_means(self.prior[None], *self._grid.bounds(x))[0]


class TrendKernel(Kernel):
    r"""Covariance that an unknown scale and offset of the mean function add.

    With a scale :math:`b \sim N(1, \tau_b^2)` and an offset :math:`a \sim N(0,
    \tau_a^2)` the function is :math:`a + b\, m(x)` plus a process of mean 0;
    integrating both out adds to its kernel

    .. math::
        \tau_a^2 + \tau_b^2\, m(x)\, m(x').

    Args:
        mean (Mean): Mean function m.
        scale_std (float): Standard deviation tau_b of the scale.
        offset_std (float): Standard deviation tau_a of the offset.

    Examples::

        >>> from captum_ext.surrogate import WindowGrid
        >>> grid = WindowGrid((8, 8), sides=(3,), durations=(), stride=4)
        >>> mean = PriorMean(grid, torch.ones(8, 8).double())
        >>> kernel = TrendKernel(mean, scale_std=2.0, offset_std=1.0)
        >>> kernel(grid.parameters[:1]).to_dense()
        tensor([[5.]], dtype=torch.float64)
    """

    def __init__(self, mean: Mean, scale_std: float, offset_std: float) -> None:
        super().__init__()
        self._mean, self._scale_std, self._offset_std = mean, scale_std, offset_std

    def forward(
        self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any
    ) -> Tensor:
        """Covariance (..., n, m), or its diagonal (..., n)."""
        features = (self._features(x) for x in (x1, x2))
        first, second = features
        return (first * second).sum(-1) if diag else first @ second.mT

    def _features(self, x: Tensor) -> Tensor:
        m = self._scale_std * self._mean(x)
        return torch.stack([m, torch.full_like(m, self._offset_std)], -1)
