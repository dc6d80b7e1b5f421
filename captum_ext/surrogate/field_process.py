"""Gaussian process over candidate masks, whose scores are sums of the pixel field."""

import torch
from torch import Tensor

from captum_ext.surrogate.field import (
    Cells,
    FieldEstimate,
    candidate_noises,
    field_kernels,
    fit_field,
    fit_kernels,
    kernels_with_prior,
)
from captum_ext.surrogate.process import CandidateProcess

__all__ = ["FieldProcess"]

# Noise before the first fit.
_FIRST_NOISE = 0.1


class FieldProcess(CandidateProcess):
    r"""The scores of candidate masks w of one example: w' phi, with phi the field.

    The covariance of two masks is :math:`w^T K w'`. K and the mean are conditioned on
    the total, which is known exactly.

    Args:
        cells (Cells): The n cells.
        masks (Tensor): Share of each cell that a candidate keeps, (G, n) float64.
        total (float): Sum of the field.
        prior (Tensor, optional): Sum of a prior map over each cell, (n,) float64; None
            for none.
        capacity (int): Largest number N of scored masks.
        seed (int, optional): Seed of the order among candidates with the same
            acquisition value, and of random acquisition functions. Default: 0
    """

    # Scores of the same mask differ by nothing.
    repeats = False

    def __init__(
        self,
        cells: Cells,
        masks: Tensor,
        total: float,
        prior: Tensor | None,
        capacity: int,
        seed: int = 0,
    ) -> None:
        self.masks = masks
        self._cells, self._total = cells, total
        self._kernels = list(kernels_with_prior(field_kernels(cells), prior))
        self._noise = _FIRST_NOISE
        self._set_kernel(self._kernels[len(self._kernels) // 2])
        super().__init__(self.prior_mean, capacity, seed)

    def _set_kernel(self, k: Tensor) -> None:
        """Condition the field on its total under a kernel (n, n)."""
        with_total = k.sum(1)
        gain = with_total / with_total.sum()
        self._crossed = self.masks @ (k - gain[:, None] * with_total)
        self.prior_mean = (self.masks @ gain * self._total)[None]

    @property
    def noise(self) -> Tensor:
        """Variance of an observation, in units of the squared amplitude, (1,)."""
        return torch.tensor([self._noise], dtype=torch.float64)

    def prior_variance(self) -> Tensor:
        """Prior variance of all candidates, (1, G), in squared amplitudes."""
        return (self._crossed * self.masks).sum(1)[None]

    def prior_covariance(
        self, indices: Tensor, examples: slice = slice(None)
    ) -> Tensor:
        """Prior covariance (1, n, G) of candidates (1, n) with all candidates.

        Args:
            indices (Tensor): Indices (1, n) of candidates.
            examples (slice, optional): The one example. Default: all
        """
        return self._crossed[indices] @ self.masks.T

    def prior_map_covariance(self, example: int) -> Tensor:
        """Prior covariance of candidates with the pixels of each cell, (G, n).

        Each cell is scaled so that squares sum to those of its pixels.

        Args:
            example (int): Index of the example, 0.
        """
        return self._crossed / self._cells.sizes.sqrt()

    def estimate(self) -> FieldEstimate:
        """Posterior of the field, averaged over hyperparameters; no mask is pending."""
        observed = self.masks[self.chosen[0]]
        return fit_field(self._kernels, observed, self.scores[0], self._total)

    def fit(self) -> Tensor:
        """Take the kernel and the noise of the largest evidence.

        Returns:
            *Tensor*: Whether the fit failed, (1,) bool.
        """
        observed = self.masks[self.chosen[0]]
        fits = fit_kernels(self._kernels, observed, self.scores[0], self._total)
        best = int(fits.log_evidence.argmax())
        noises = candidate_noises(*observed.shape)
        self._set_kernel(self._kernels[best // len(noises)])
        self._noise = float(noises[best % len(noises)])
        return torch.tensor([False])
