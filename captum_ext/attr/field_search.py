"""BOREx over masks of any shape, with a Gaussian process on the cells of the input."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captum_ext._type_checks import check_sequence, shown
from captum_ext._validation import check_choice, check_positive
from captum_ext.attr.mask_layouts import (
    Layout,
    cell_layouts,
    check_shared_by_channels,
    warn_of_sequences,
)
from captum_ext.attr.mask_search import MaskScores, MaskSearch, Refine, Score, Search
from captum_ext.attr.masked_run import relative_errors
from captum_ext.attr.random_masks import MaskedInputs
from captum_ext.attr.window_search import square_sides
from captum_ext.masks import RegionLayout, candidate_masks
from captum_ext.masks.candidates import KINDS

__all__ = ["by_field", "check_kinds", "refine_by_field", "shared_cells"]


def by_field(
    inputs: tuple[Tensor, ...],
    has_prior: bool,
    mask_sizes: Sequence[int] | None,
    feature_mask: Tensor | tuple[Tensor, ...] | None,
    candidates: str | Sequence[str] | None,
    rtol: float | None,
) -> Refine:
    """Refinement by a field for each example.

    Args:
        inputs (tuple[Tensor, ...]): Inputs (B, C, ...) of one size.
        has_prior (bool): Whether there is a prior map.
        mask_sizes (sequence of int, optional): Sides of squares in pixels.
        feature_mask (Tensor or tuple[Tensor, ...], optional): Cells of your own.
        candidates (str or sequence of str, optional): Kinds of candidates, see
            :func:`~captum_ext.masks.candidate_masks`.
        rtol (float, optional): Root mean square deviation of the map, in units of its
            range, at which the search stops.

    Returns:
        *Refine*: The refinement; its maps sum to f(i) - f(0).

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If an argument is of the wrong type.
    """
    if rtol is not None:
        rtol = check_positive("rtol", rtol)
    kinds = check_kinds(candidates, has_prior)
    layouts = shared_cells(inputs, feature_mask)
    sides = square_sides(inputs[0].shape[2:], mask_sizes)
    if mask_sizes is not None and "squares" not in kinds:
        raise ValueError(
            f"mask_sizes must be None unless 'squares' are among the candidates, got "
            f"{shown(mask_sizes)}."
        )

    def refine(
        masked: MaskedInputs,
        search: MaskSearch,
        scores: Callable[[MaskedInputs, Score], MaskScores],
        bar: Any,
    ) -> Search:
        found = []
        for i in range(len(inputs[0])):
            example, layout = masked.example(i), layouts[i % len(layouts)]
            score = scores(example, "mean")
            found.append(
                refine_by_field(layout, example, search, score, kinds, sides, rtol, bar)
            )
        return Search.joined(found)

    return refine


def refine_by_field(
    layout: RegionLayout,
    masked: MaskedInputs,
    search: MaskSearch,
    score: MaskScores,
    kinds: Sequence[str],
    sides: Sequence[float],
    rtol: float | None,
    bar: Any,
) -> Search:
    """Refine the prior map of one example by a field.

    Args:
        layout (RegionLayout): Cells of the example.
        masked (MaskedInputs): The example, with a prior map or without.
        search (MaskSearch): Order of the masks.
        score (MaskScores): Scores "mean" of masks.
        kinds (sequence of str): Kinds of candidates, see
            :func:`~captum_ext.masks.candidate_masks`.
        sides (sequence of float): Sides of squares among the candidates, in units of
            the shorter side.
        rtol (float, optional): Root mean square deviation of the map, in units of its
            range, at which the search stops.
        bar: Progress bar over the masks.

    Returns:
        *Search*: Maps (1, ...) whose elements sum to f(i) - f(0).
    """
    from captum_ext.surrogate.field import Cells
    from captum_ext.surrogate.field_process import FieldProcess

    cells = Cells(layout.sizes(), layout.positions())
    sums = mean = None
    if masked.prior is not None:
        sums = layout.sums([masked.prior[None]] * len(masked.inputs))
        mean = sums / layout.counts()
    generator = torch.Generator().manual_seed(search.seed)
    candidates = candidate_masks(layout, kinds, sides, generator, mean).double()
    total = float(score.ends[0] - score.ends[1])
    search = replace(search, n_iterations=min(search.n_iterations, len(candidates)))
    process = FieldProcess(
        cells, candidates, total, sums, search.n_iterations, search.seed
    )

    device = masked.inputs[0].device

    def masks(indices: Tensor) -> Tensor:
        """Masks (q, 1, ...) of candidates (q, 1), expanded on the inputs' device."""
        kept = candidates[indices[:, 0]].float()[:, None].to(device)
        # (q, 1, 1, 1, ...): masks, fills, batch and channels.
        return layout.expand(kept, torch.zeros(len(kept), 0))[0][:, 0, 0]

    shares = layout.counts([x.numel() for x in masked.inputs])

    def maps() -> tuple[Tensor, Tensor]:
        """Map (1, ...) and its standard deviation."""
        values = torch.stack(process.estimate()) / shares
        mean, std = layout.correlate(values[:, :, None])[0][:, :, 0]
        return mean, std

    def is_exact() -> bool:
        return rtol is not None and bool(relative_errors(*maps()) <= rtol)

    search.run(process, masks, score, bar, is_exact=is_exact)
    scored = (masks(process.chosen[0, :, None])[None, :, 0] > 0).cpu()
    return Search(*maps(), scored, process.scores)


def shared_cells(
    inputs: tuple[Tensor, ...], feature_mask: Tensor | tuple[Tensor, ...] | None
) -> list[RegionLayout]:
    """Cells of inputs of one size: superpixels of the first input.

    Args:
        inputs (tuple[Tensor, ...]): Inputs (B, C, ...) of one size.
        feature_mask (Tensor or tuple[Tensor, ...], optional): Cells of your own.

    Returns:
        *list[RegionLayout]*: One for the batch or one per example.

    Raises:
        ValueError: If cells differ between the channels of a pixel or between inputs.
    """
    if isinstance(feature_mask, tuple):
        given = next((mask for mask in feature_mask if mask is not None), None)
        feature_mask = tuple(given if m is None else m for m in feature_mask)
    masks = check_shared_by_channels(feature_mask, inputs)
    if masks is not None:
        if not all(torch.equal(*torch.broadcast_tensors(masks[0], m)) for m in masks):
            raise ValueError(
                "feature_mask must be the same for all inputs, got masks that differ."
            )
        return cell_layouts(inputs, masks, None, None)
    n_positions = inputs[0].shape[-1]
    warn_of_sequences(inputs[:1], f"feature_mask=torch.arange({n_positions})")
    layout: Layout = "grid" if inputs[0].dim() == 3 else "superpixels"
    first = cell_layouts(inputs[:1], None, None, layout)
    return [RegionLayout(layout.regions * len(inputs)) for layout in first]


def check_kinds(
    candidates: str | Sequence[str] | None, has_prior: bool
) -> Sequence[str]:
    """Kinds of candidates, at least one of which gives masks.

    Args:
        candidates (str or sequence of str, optional): Names of kinds.
        has_prior (bool): Whether there is a prior map.

    Returns:
        *sequence of str*: The kinds; halves by default.

    Raises:
        ValueError: If a name is unknown or no kind gives masks.
        TypeError: If it is neither a name nor a sequence.
    """
    if candidates is None:
        return ("halves",)
    if isinstance(candidates, str):
        candidates = (candidates,)
    for kind in check_sequence("candidates", candidates, "names"):
        check_choice("candidates", kind, KINDS)
    if not set(candidates) - (set() if has_prior else {"parts"}):
        raise ValueError(
            f"candidates must hold a kind that gives masks, got {shown(candidates)} "
            f"{'with' if has_prior else 'without'} a prior."
        )
    return candidates
