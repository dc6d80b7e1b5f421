"""BOREx over square windows, as in its paper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import torch

from captum_ext._validation import check_choice, check_integer, check_integers
from captum_ext.attr.mask_search import MaskScores, MaskSearch, Refine, Score, Search
from captum_ext.attr.random_masks import MaskedInputs

if TYPE_CHECKING:
    from captum_ext.surrogate import WindowGrid

__all__ = ["VARIANTS", "WindowVariant", "by_windows", "square_sides"]

# The authors' sides as shares of the shorter side of the image.
_SIDES = tuple(2 * half / 224 for half in (30, 45, 60, 75))
_DURATIONS = (0.5, 1.0)
# Default number of window positions along the shorter side.
_POSITIONS = 28


@dataclass(frozen=True)
class WindowVariant:
    r"""Choices of BOREx over square windows; by default those of ``variant`` "windows".

    A window is a square of side r around the pixel :math:`\lambda`, in video for t
    frames, and :math:`\mu(\lambda, r)` its predicted score.

    Source: A. Kikuchi, K. Uchida, M. Waga, K. Suenaga, BOREx:
    Bayesian-Optimization-Based Refinement of Saliency Map for Image- and
    Video-Classification Models, ACCV 2022; Algorithms 1 and 2, Section 3.2.

    Args:
        score (str, optional): Score of a mask :math:`\bar m`, 1 inside and 0 outside,
            with :math:`m = 1 - \bar m`: "mean" for the mean of
            :math:`f(i \odot \bar m) - f(0)` and :math:`f(i) - f(i \odot m)`;
            "difference" for :math:`f(i \odot \bar m) - f(i \odot m)`, line 7 of
            Algorithm 2; "drop" for :math:`f(i) - f(i \odot m)`, line 7 of Algorithm 1,
            which takes one pass less per mask. Default: "mean"
        weighting (str, optional): What the map averages over sizes: "window" for the
            mean of :math:`\mu` over the windows that cover the pixel; "area" for
            :math:`\mu(\lambda, r) / r^2`, in video :math:`\mu(\lambda, r, t) / (r^2
            t)`, line 12 of Algorithm 2; "mean" for :math:`\mu(\lambda, r)`, line 12 of
            Algorithm 1. Default: "window"
        prior_value (str, optional): Prior mean of a window: "mean" of the prior map
            over it, or the map's value at the "center", line 2 of Algorithm 2.
            Default: "mean"
        prior_scale (str, optional): "learned" for an unknown scale and offset of the
            prior mean; "fixed" for a prior map with a mean absolute value of 0.1.
            Default: "learned"
        kernel (str, optional): Matern 3/2 kernel: "learned" for lengthscales relative
            to the image, with a learned noise and amplitude; "authors" for the authors'
            amplitude of 1, noise of variance 0.01, and lengthscales of 12 for rows and
            columns and 10 for half-sides, in pixels of an image of 224, fitted between
            1 and 20. Default: "learned"
        first (str, optional): What chooses the first window: its "prior" mean, the
            highest one, or the "acquisition" function, as for all others.
            Default: "prior"
        frames (str, optional): Frames of a window at frame n of a video: "centered" for
            the t frames around n, "following" for n to n + t - 1, Section 3.2.
            Default: "centered"
        durations (sequence of int, optional): Numbers of frames t. Default: None (half
            of the frames, and all)
        stride (int, optional): Distance between the positions of windows in pixels.
            Default: None (a 28th of the shorter side)

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If ``durations`` is not a sequence or a number is not an integer.

    Examples::

        >>> WindowVariant(score="drop").weighting
        'window'
        >>> WindowVariant.paper(weighting="window").score
        'difference'
    """

    score: Score = "mean"
    weighting: Literal["window", "area", "mean"] = "window"
    prior_value: Literal["mean", "center"] = "mean"
    prior_scale: Literal["learned", "fixed"] = "learned"
    kernel: Literal["learned", "authors"] = "learned"
    first: Literal["prior", "acquisition"] = "prior"
    frames: Literal["centered", "following"] = "centered"
    durations: Sequence[int] | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal:
                check_choice(name, getattr(self, name), get_args(hint))
        if self.stride is not None:
            check_integer("stride", self.stride, 1)
        if self.durations is not None:
            durations = check_integers("durations", self.durations, 1)
            object.__setattr__(self, "durations", durations)

    @classmethod
    def paper(cls, **changes: Any) -> "WindowVariant":
        """The paper's own choices, those of ``variant`` "paper".

        Args:
            **changes: Arguments that differ.

        Returns:
            *WindowVariant*.
        """
        choices: dict[str, Any] = {
            "score": "difference",
            "weighting": "area",
            "prior_value": "center",
            "prior_scale": "fixed",
            "kernel": "authors",
            "first": "acquisition",
            "frames": "following",
        }
        return cls(**{**choices, **changes})


#: Constructors of the named variants over windows.
VARIANTS: dict[str, Callable[..., WindowVariant]] = {
    "windows": WindowVariant,
    "paper": WindowVariant.paper,
}


def square_sides(size: Sequence[int], mask_sizes: Sequence[int] | None) -> list[float]:
    """Sides of squares in units of the shorter side, checked as for windows.

    Args:
        size (sequence of int): (H, W) or (T, H, W).
        mask_sizes (sequence of int, optional): Sides in pixels. Default: None (30 to
            150 of 224 pixels)
    """
    sides, _ = _windows(mask_sizes, None, size[-2:], (30 / 224, *_SIDES), ())
    return [side / min(size[-2:]) for side in sides]


def by_windows(
    size: Sequence[int], mask_sizes: Sequence[int] | None, variant: WindowVariant
) -> Refine:
    """Refinement by a process over windows, for all examples together.

    Args:
        size (sequence of int): (H, W) or (T, H, W).
        mask_sizes (sequence of int, optional): Sides in pixels.
        variant (WindowVariant): Choices.

    Returns:
        *Refine*: The refinement; its maps are in the unit of the score, divided by
        pixels if the weighting is "area".

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If an argument is of the wrong type.
    """
    from captum_ext.surrogate import WindowProcess

    grid = _grid(size, mask_sizes, variant)

    def refine(
        masked: MaskedInputs,
        search: MaskSearch,
        scores: Callable[[MaskedInputs, Score], MaskScores],
        bar: Any,
    ) -> Search:
        prior = masked.prior
        if prior is None:
            prior = torch.zeros(len(masked.inputs[0]), *grid.size, dtype=torch.float64)
        score = scores(masked, variant.score)
        process = WindowProcess(
            grid,
            score.share(prior),
            search.n_iterations,
            search.seed,
            variant.prior_value,
            variant.prior_scale,
            variant.kernel,
        )
        starts_at_prior = variant.first == "prior"
        search.run(process, grid.masks, score, bar, starts_at_prior)
        return Search(
            grid.maps(process.mean, variant.weighting),
            grid.maps(process.std, variant.weighting),
            torch.stack([grid.masks(each) > 0 for each in process.chosen]),
            process.scores,
        )

    return refine


def _grid(
    size: Sequence[int], mask_sizes: Sequence[int] | None, variant: WindowVariant
) -> "WindowGrid":
    """All windows of a variant on inputs (H, W) or (T, H, W)."""
    from captum_ext.surrogate import WindowGrid

    sides, frames = _windows(mask_sizes, variant.durations, size, _SIDES, _DURATIONS)
    stride = variant.stride or max(1, min(size[-2:]) // _POSITIONS)
    return WindowGrid(size, sides, frames, stride, variant.frames)


def _windows(
    mask_sizes: Sequence[int] | None,
    durations: Sequence[int] | None,
    size: Sequence[int],
    default_sizes: Sequence[float],
    default_durations: Sequence[float],
) -> tuple[list[int], list[int]]:
    """Sides in pixels and numbers of frames; defaults are shares of the image.

    There are no frames unless ``size`` is (T, H, W).
    """
    if durations is not None and len(size) < 3:
        raise ValueError(
            f"durations must be None unless inputs are video (B, C, T, H, W), got "
            f"{durations}."
        )
    sides = _lengths("mask_sizes", mask_sizes, default_sizes, min(size[-2:]))
    if len(size) < 3:
        return sides, []
    return sides, _lengths("durations", durations, default_durations, size[0])


def _lengths(
    name: str, values: Sequence[int] | None, default: Sequence[float], most: int
) -> list[int]:
    """Lengths of at most ``most`` pixels or frames, without duplicates."""
    if values is None:
        values = [max(1, round(share * most)) for share in default]
    return list(dict.fromkeys(check_integers(name, values, 1, most)))
