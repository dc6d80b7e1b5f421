"""One run of random halves over a batch: drawn, scored and summarized as fields."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from captum_ext._scores import ChunkedScores
from captum_ext.attr.masked_run import Maps, Run, Sampling
from captum_ext.masks import MaskCodes, RegionLayout, smooth_halves
from captum_ext.masks.layout import code_dtype

__all__ = ["FieldRun"]

# Pairs of halves after which errors are first compared with the tolerance.
_FIRST_PAIRS = 16


class FieldRun(Run):
    """Random halves of one batch, and the fields that follow from their scores.

    Args:
        layout (RegionLayout): Cells of the inputs.
        sampling (Sampling): How many masks are drawn, and when enough are scored.
        inputs (tuple[Tensor, ...]): Inputs (B, ...).
        fills (sequence of sequence of Tensor): The K fills of each input. Each has a
            field of its own.
        score (ChunkedScores): Scores masked inputs.
        contrast (Callable): Linear map from the categories (K + 1, ...) to the R maps
            of an example (R, ...).
        n_elements (sequence of int): Number of elements of each map of an example.
        prior (Tensor, optional): Prior maps (B, ...) of the size of the inputs.
    """

    def __init__(
        self,
        layout: RegionLayout,
        sampling: Sampling,
        inputs: tuple[Tensor, ...],
        fills: Sequence[Sequence[Tensor]],
        score: ChunkedScores,
        contrast: Callable[[Tensor], Tensor],
        n_elements: Sequence[int],
        prior: Tensor | None,
    ) -> None:
        from captum_ext.surrogate.field import Cells, field_kernels

        cells = Cells(layout.sizes(), layout.positions())
        self._regions, self._n_elements = layout, n_elements
        self._n_fills = len(fills[0])
        # The whole input and the K fully filled ones take a pass each.
        n_pairs = max(1, (sampling.n_masks - 1 - self._n_fills) // (2 * self._n_fills))
        generator = torch.Generator().manual_seed(sampling.seed)
        self._halves = smooth_halves(
            cells.positions, cells.sizes, n_pairs, generator, sampling.probabilities[0]
        )
        codes = _codes(self._halves, self._n_fills)
        super().__init__(layout, sampling, inputs, fills, score, contrast, codes)
        self._kernels = field_kernels(cells)
        self._priors: list[Tensor | None] = [None] * len(inputs[0])
        if prior is not None:
            self._priors = [layout.sums([each[None]] * len(inputs)) for each in prior]

    def checkpoints(self) -> Iterator[int]:
        """Numbers of masks after which the errors are compared with the tolerance."""
        most = len(self._halves)
        n_pairs = _FIRST_PAIRS if self._sampling.stops_early else most
        while n_pairs < most:
            yield 1 + self._n_fills * (1 + 2 * n_pairs)
            n_pairs = 3 * n_pairs // 2
        yield 1 + self._n_fills * (1 + 2 * most)

    def summarize(self, scores: Tensor) -> Maps:
        """Fields from the scores (N, B) of the first N masks.

        Args:
            scores (Tensor): Scores (N, B).

        Returns:
            *Maps* of the inputs; a map sums to what its fields sum to.
        """
        from captum_ext.surrogate.field import fit_field, kernels_with_prior

        whole, filled = scores[:1], scores[1 : 1 + self._n_fills]
        totals = whole - filled
        pairs = scores[1 + self._n_fills :].unflatten(0, (-1, self._n_fills, 2))
        kept, rest = pairs.unbind(2)
        halved = (kept - filled + whole - rest) / 2  # (pairs, K, B)
        weights = self._halves[: len(halved)].double()
        shape = (2, *totals.shape, weights.shape[1])
        means, stds = torch.empty(shape, dtype=torch.float64)
        for k, b in itertools.product(*map(range, totals.shape)):
            kernels = kernels_with_prior(self._kernels, self._priors[b])
            means[k, b], stds[k, b] = fit_field(
                kernels, weights, halved[:, k, b], float(totals[k, b])
            )
        # Scores of a cell relative to the kept one: 0, then minus what keeping it adds.
        values = self._contrast(torch.cat([torch.zeros_like(means[:1]), -means]))
        variance = torch.zeros_like(values)
        for k in range(self._n_fills):
            one = torch.zeros(len(means) + 1, *means.shape[1:], dtype=means.dtype)
            one[k + 1] = stds[k]
            variance += self._contrast(one).square()
        std = variance.sqrt()
        return Maps(self._spread(values), self._spread(std), std)

    def _spread(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values of cells (R, B, n) shared equally by their elements, (R, B, ...)."""
        shares = values / self._regions.counts(self._n_elements)
        return self._layout.correlate(shares.transpose(1, 2))


def _codes(halves: Tensor, n_fills: int) -> MaskCodes:
    """Masks in order: nothing filled, each fill everywhere, then the pairs."""
    dtype = code_dtype(n_fills)
    fills = torch.arange(1, n_fills + 1, dtype=dtype)[:, None]
    n = halves.shape[1]
    hidden = torch.stack([~halves, halves], 1)[:, None] * fills[:, None]
    nothing = torch.zeros(1, n, dtype=dtype)
    cells = torch.cat([nothing, fills.expand(-1, n), hidden.flatten(0, 2)])
    return MaskCodes(cells, torch.empty(len(cells), 0, dtype=torch.int32))
