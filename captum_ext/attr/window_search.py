"""BOREx over square windows, as in its paper."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from captum_ext._type_checks import check_flags
from captum_ext._validation import check_choice, check_integer
from captum_ext.attr.mask_search import MaskScores, MaskSearch, Refine, Search
from captum_ext.attr.random_masks import MaskedInputs

if TYPE_CHECKING:
    from captum_ext.surrogate import WindowGrid

__all__ = ["by_windows", "square_sides", "window_grid"]

# The authors' sides as shares of the shorter side of the image.
_SIDES = tuple(2 * half / 224 for half in (30, 45, 60, 75))
_DURATIONS = (0.5, 1.0)
# Default number of window centers along the shorter side.
_CENTERS = 28


def window_grid(
    size: Sequence[int],
    mask_sizes: Sequence[int] | None,
    durations: Sequence[int] | None,
    stride: int | None,
) -> "WindowGrid":
    """Grid of all windows of the given sizes, durations and stride.

    Args:
        size (sequence of int): (H, W) or (T, H, W).
        mask_sizes (sequence of int, optional): Sides in pixels.
        durations (sequence of int, optional): Lengths in frames.
        stride (int, optional): Distance of centers in pixels.

    Returns:
        *WindowGrid*.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If an argument is of the wrong type.
    """
    from captum_ext.surrogate.windows import WindowGrid, check_windows

    sides, frames = check_windows(mask_sizes, durations, size, _SIDES, _DURATIONS)
    if stride is None:
        stride = max(1, min(size[-2:]) // _CENTERS)
    return WindowGrid(size, sides, frames, check_integer("stride", stride, 1))


def square_sides(size: Sequence[int], mask_sizes: Sequence[int] | None) -> list[float]:
    """Sides of squares in units of the shorter side, checked as in :func:`window_grid`.

    Args:
        size (sequence of int): (H, W) or (T, H, W).
        mask_sizes (sequence of int, optional): Sides in pixels. Default: None (30 to
            150 of 224 pixels)
    """
    from captum_ext.surrogate.windows import check_windows

    sides, _ = check_windows(mask_sizes, None, size[-2:], (30 / 224, *_SIDES), ())
    return [side / min(size[-2:]) for side in sides]


def by_windows(
    size: Sequence[int],
    mask_sizes: Sequence[int] | None,
    durations: Sequence[int] | None,
    stride: int | None,
    flip: bool | None,
    weighting: str | None,
) -> Refine:
    """Refinement by a process over windows, for all examples together.

    Args:
        size (sequence of int): (H, W) or (T, H, W).
        mask_sizes (sequence of int, optional): Sides in pixels.
        durations (sequence of int, optional): Lengths in frames.
        stride (int, optional): Distance of centers in pixels.
        flip (bool, optional): Whether masks are flipped as well; None for yes.
        weighting (str, optional): "window" gives a pixel the mean over the windows that
            cover it; "mean" the value of the windows centered at it; None for "window".

    Returns:
        *Refine*: The refinement; its maps are in the unit of the score.

    Raises:
        ValueError: If an argument is out of its range.
    """
    from captum_ext.surrogate import WindowProcess

    grid = window_grid(size, mask_sizes, durations, stride)
    if flip is not None:
        check_flags(flip=flip)
    weighting = "window" if weighting is None else weighting
    check_choice("weighting", weighting, ("window", "mean"))
    is_averaged = weighting == "window"

    def refine(
        masked: MaskedInputs,
        search: MaskSearch,
        scores: Callable[[MaskedInputs, bool], MaskScores],
        bar: Any,
    ) -> Search:
        prior = masked.prior
        if prior is None:
            prior = torch.zeros(len(masked.inputs[0]), *grid.size, dtype=torch.float64)
        score = scores(masked, flip is not False)
        process = WindowProcess(
            grid, score.share(prior), search.n_iterations, search.seed
        )
        search.run(process, grid.masks, score, bar, starts_at_prior=True)
        return Search(
            grid.maps(process.mean, is_averaged),
            grid.maps(process.std, is_averaged),
            torch.stack([grid.masks(each) > 0 for each in process.chosen]),
            process.scores,
        )

    return refine
