"""One run of random halves over a batch: drawn, scored and summarized as fields."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from captum_ext._scores import ChunkedScores
from captum_ext._validation import check_scores
from captum_ext.attr.masked_run import Maps, Sampling
from captum_ext.masks import MaskCodes, RegionLayout, apply_masks, smooth_halves

__all__ = ["FieldRun"]

# Pairs of halves after which errors are first compared with the tolerance.
_FIRST_PAIRS = 16


class FieldRun:
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
        from captum_ext.surrogate.field import Cells

        self._layout, self._sampling = layout, sampling
        self._inputs, self._fills = inputs, fills
        self._score, self._contrast = score, contrast
        self._n_elements = n_elements
        self._cells = Cells(layout.sizes(), layout.positions())
        self._n_fills = len(fills[0])
        # The whole input and the K fully filled ones take a pass each.
        n_pairs = max(1, (sampling.n_masks - 1 - self._n_fills) // (2 * self._n_fills))
        generator = torch.Generator().manual_seed(sampling.seed)
        self._halves = smooth_halves(
            self._cells.positions,
            self._cells.sizes,
            n_pairs,
            generator,
            sampling.probabilities[0],
        )
        self._codes = _codes(self._halves, self._n_fills)
        self._priors = None
        if prior is not None:
            self._priors = [layout.sums([each[None]] * len(inputs)) for each in prior]

    def maps(self, update: Callable[[int], object]) -> Maps:
        """Score halves until the errors of all examples are small enough.

        Args:
            update (Callable): Called with the number of masks of each chunk.

        Returns:
            *Maps* of the inputs; a map sums to what its fields sum to.
        """
        scores: list[Tensor] = []
        n_scored = 0
        finished = torch.tensor(False)
        earlier: Maps | None = None
        for n_pairs in self._checkpoints():
            n = 1 + self._n_fills * (1 + 2 * n_pairs)
            scores.append(self._score(self._perturb, n_scored, n, update))
            n_scored = n
            maps, worst = self._summarize(torch.cat(scores))
            if earlier is not None:
                maps.replace(finished, earlier)
            finished = finished | self._sampling.finished(maps, worst)
            if finished.all():
                break
            earlier = maps
        return maps

    def _checkpoints(self) -> Iterator[int]:
        """Numbers of pairs after which the errors are compared with the tolerance."""
        if self._sampling.stops_early:
            n = _FIRST_PAIRS
            while n < len(self._halves):
                yield n
                n = 3 * n // 2
        yield len(self._halves)

    def _perturb(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Inputs (n * B, ...) under the masks of a range."""
        codes = MaskCodes(self._codes[start:stop], torch.zeros(stop - start, 0).int())
        cells = codes.indicators(self._n_fills).to(self._inputs[0].device)
        masks = self._layout.expand(cells, codes.shifts)
        return tuple(map(apply_masks, self._inputs, self._fills, masks))

    def _summarize(self, scores: Tensor) -> tuple[Maps, Tensor]:
        """Fields from the scores (N, B) of the first N masks.

        Returns:
            *tuple[Maps, Tensor]*: Maps, and the largest standard deviation of a cell of
            each example, (B,), in the unit of the score.
        """
        from captum_ext.surrogate.field import fit_field

        check_scores(scores)
        whole, filled = scores[:1], scores[1 : 1 + self._n_fills]
        totals = whole - filled
        pairs = scores[1 + self._n_fills :].unflatten(0, (-1, self._n_fills, 2))
        kept, rest = pairs.unbind(2)
        halved = (kept - filled + whole - rest) / 2  # (pairs, K, B)
        weights = self._halves[: len(halved)].double()
        n_examples, n_cells = totals.shape[1], len(self._cells.sizes)
        shape = (2, self._n_fills, n_examples, n_cells)
        means, stds = torch.empty(shape, dtype=torch.float64)
        for k in range(self._n_fills):
            for b in range(n_examples):
                prior = None if self._priors is None else self._priors[b]
                estimate = fit_field(
                    self._cells, weights, halved[:, k, b], float(totals[k, b]), prior
                )
                means[k, b], stds[k, b] = estimate.mean, estimate.std
        # Scores of a cell relative to the kept one: 0, then minus what keeping it adds.
        values = self._contrast(torch.cat([torch.zeros_like(means[:1]), -means]))
        variance = torch.zeros_like(values)
        for k in range(self._n_fills):
            one = torch.zeros(len(means) + 1, *means.shape[1:], dtype=means.dtype)
            one[k + 1] = stds[k]
            variance += self._contrast(one).square()
        std = variance.sqrt()
        return Maps(self._spread(values), self._spread(std)), std.amax((0, 2))

    def _spread(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values of cells (R, B, n) shared equally by their elements, (R, B, ...)."""
        shares = values / self._layout.counts(self._n_elements)
        return self._layout.correlate(shares.transpose(1, 2))


def _codes(halves: Tensor, n_fills: int) -> Tensor:
    """Categories (N, n) uint8: nothing filled, each fill everywhere, then the pairs."""
    fills = torch.arange(1, n_fills + 1, dtype=torch.uint8)[:, None]
    n = halves.shape[1]
    hidden = torch.stack([~halves, halves], 1)[:, None] * fills[:, None]
    return torch.cat(
        [
            torch.zeros(1, n, dtype=torch.uint8),
            fills.expand(-1, n),
            hidden.flatten(0, 2),
        ]
    )
