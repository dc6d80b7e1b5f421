"""Gaussian processes over the windows of a grid."""

from typing import Literal

import torch
from torch import Tensor

from captum_ext.surrogate.hyperparameters import Hyperparameters, matern
from captum_ext.surrogate.process import CandidateProcess
from captum_ext.surrogate.windows import WindowGrid

__all__ = ["WindowProcess"]

# Standard deviations of the prior's scale and of the offset, in units of the amplitude
# if the prior's means over windows have root mean square 1.
_SCALE_STD, _OFFSET_STD = 1.0, 0.3


class WindowProcess(CandidateProcess):
    r"""B Gaussian processes, one per image, over the same grid of windows.

    The mean m is that of the prior map over a window, or its value at the position. If
    it has an unknown scale :math:`b \sim N(1, \tau_b^2)` and an unknown offset
    :math:`a \sim N(0, \tau_a^2)`, integrating both out adds to the Matern 3/2 kernel
    over the parameters of windows

    .. math::
        \tau_a^2 + \tau_b^2\, m(x)\, m(x').

    Args:
        grid (WindowGrid): Grid of the G windows.
        prior (Tensor): Prior maps, (B, H, W) or (B, T, H, W) float64; zero for none.
        capacity (int): Largest number N of windows per image.
        seed (int, optional): Seed of the order among windows with the same acquisition
            value, and of random acquisition functions. Default: 0
        prior_value (str, optional): Prior mean of a window: "mean" of the prior map
            over it, or the map's value at the "center". Default: "mean"
        prior_scale (str, optional): "learned" for an unknown scale and offset of the
            mean, "fixed" for neither. Default: "learned"
        kernel (str, optional): "learned" for lengthscales relative to the image, with a
            learned noise and amplitude; "authors" for those of the authors' code: an
            amplitude of 1, noise of variance 0.01, and lengthscales from 1 to 20 pixels
            of an image of 224. Default: "learned"

    Attributes:
        hyperparameters (Hyperparameters): Hyperparameters of the last fit.
    """

    def __init__(
        self,
        grid: WindowGrid,
        prior: Tensor,
        capacity: int,
        seed: int = 0,
        prior_value: Literal["mean", "center"] = "mean",
        prior_scale: Literal["learned", "fixed"] = "learned",
        kernel: Literal["learned", "authors"] = "learned",
    ) -> None:
        mean = grid.means(prior) if prior_value == "mean" else grid.values(prior)
        self._features = mean.new_empty(*mean.shape, 0)
        if prior_scale == "learned":
            self._features = _trend(mean)
        self._is_authors = kernel == "authors"
        self._parameters = grid.parameters
        start = Hyperparameters.initial
        if self._is_authors:
            self._parameters = grid.authors_parameters()
            start = Hyperparameters.of_authors
        self.hyperparameters = start(len(prior), self._parameters.shape[1])
        super().__init__(mean, capacity, seed)

    @property
    def amplitude(self) -> Tensor:
        """Prior standard deviation of the process, (B,)."""
        estimated = super().amplitude
        return torch.ones_like(estimated) if self._is_authors else estimated

    @property
    def noise(self) -> Tensor:
        """Variance of an observation, in units of the squared amplitude, (B,)."""
        return self.hyperparameters.noise

    def prior_variance(self) -> Tensor:
        """Prior variance of all windows, in units of the squared amplitude, (B, G)."""
        return 1 + self._features.square().sum(-1)

    def prior_covariance(
        self, indices: Tensor, examples: slice = slice(None)
    ) -> Tensor:
        """Prior covariance (b, n, G) of windows (b, n) of b examples with all windows.

        Args:
            indices (Tensor): Indices (b, n) of windows of b examples.
            examples (slice, optional): The b examples. Default: all
        """
        X = self._parameters
        kernel = self._matern if examples == slice(None) else self._matern[examples]
        k = kernel(X[indices], X.expand(len(indices), -1, -1)).to_dense()
        features = self._features[examples]
        return k + _taken(features, indices) @ features.mT

    def fit(self) -> Tensor:
        """Fit the hyperparameters to the scores.

        Returns:
            *Tensor*: Which examples failed and keep their hyperparameters, (B,) bool.
        """
        of = self.hyperparameters
        fit = of.fitted_in_bounds if self._is_authors else of.fitted
        self.hyperparameters, failed = fit(
            self._parameters[self.chosen],
            _taken(self._features, self.chosen),
            self.scores - self.prior_mean.gather(1, self.chosen),
        )
        return failed

    def condition(self) -> None:
        """Compute the posterior from scratch, without pending windows."""
        self._matern = matern(self.hyperparameters.lengthscale)
        super().condition()


def _trend(mean: Tensor) -> Tensor:
    """Features (B, G, 2) of an unknown scale and offset of a mean (B, G)."""
    unit = mean.square().mean(1, keepdim=True).sqrt()
    scale_std = torch.where(unit > 0, _SCALE_STD / unit, 0)
    offset = torch.full_like(mean, _OFFSET_STD)
    return torch.stack([scale_std * mean, offset], -1)


def _taken(features: Tensor, windows: Tensor) -> Tensor:
    """Features (B, n, F) of windows (B, n), from those of all windows, (B, G, F)."""
    return features.gather(1, windows[..., None].expand(-1, -1, features.shape[-1]))
