"""BOREx over masks of any shape, with a Gaussian process on the cells of the input."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_ext.attr.mask_search import MaskScores, MaskSearch, Search
from captum_ext.attr.random_masks import MaskedInputs
from captum_ext.masks import RegionLayout, candidate_masks

__all__ = ["refine_by_field"]


def refine_by_field(
    layout: RegionLayout,
    masked: MaskedInputs,
    search: MaskSearch,
    score: MaskScores,
    sides: Sequence[float],
    bar: Any,
) -> Search:
    """Refine the prior map of one example by a field.

    Args:
        layout (RegionLayout): Cells of the example.
        masked (MaskedInputs): The example, with a prior map or without.
        search (MaskSearch): Order of the masks.
        score (MaskScores): Scores of masks, of the flipped ones as well.
        sides (sequence of float): Sides of squares among the candidates, in units of
            the shorter side.
        bar: Progress bar over the masks.

    Returns:
        *Search*: Maps (1, ...) whose elements sum to f(i) - f(0).
    """
    from captum_ext.surrogate.field import Cells, fit_field
    from captum_ext.surrogate.field_process import FieldProcess

    cells = Cells(layout.sizes(), layout.positions())
    counts = layout.counts()
    sums = mean = None
    if masked.prior is not None:
        sums = layout.sums([masked.prior[None]] * len(masked.inputs))
        mean = sums / counts
    generator = torch.Generator().manual_seed(search.seed)
    candidates = candidate_masks(layout, sides, generator, mean).double()
    total = float(score.ends[0] - score.ends[1])
    process = FieldProcess(
        cells, candidates, total, sums, search.n_iterations, search.seed
    )

    def masks(indices: Tensor) -> Tensor:
        """Masks (q, 1, ...) of candidates (q, 1)."""
        kept = candidates[indices[:, 0]].float()[:, None]
        # (q, 1, 1, 1, ...): masks, fills, batch and channels.
        return layout.expand(kept, torch.zeros(len(kept), 0))[0][:, 0, 0]

    search.run(process, masks, score, bar)
    chosen = process.chosen[0]
    estimate = fit_field(cells, candidates[chosen], process.scores[0], total, sums)
    shares = layout.counts([x.numel() for x in masked.inputs])
    values = torch.stack([estimate.mean, estimate.std]) / shares
    mean_map, std_map = layout.correlate(values[:, :, None])[0][:, :, 0]
    scored = masks(chosen[:, None])[None, :, 0] > 0
    return Search(mean_map, std_map, scored, process.scores)
