"""One run of random masks over a batch: drawn, scored and summarized as maps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from captum_ext._modes import full_precision
from captum_ext._scores import ChunkedScores
from captum_ext._type_checks import check_flags
from captum_ext._validation import (
    check_choice,
    check_finite_scores,
    check_integer,
    check_positive,
)
from captum_ext.attr.estimators import (
    conditional_means,
    cross_fit,
    standard_errors,
    uncontrolled,
)
from captum_ext.masks import MaskCodes, MaskLayout, apply_masks, draw_masks
from captum_ext.masks.fill import replaced

__all__ = ["UNBIASED", "MaskedRun", "Maps", "Run", "Sampling", "relative_errors"]

#: Estimators of conditional means without bias.
UNBIASED = ("control_variate", "monte_carlo")


@dataclass
class Sampling:
    """How masks are drawn, how many, and when enough of them are scored.

    Args:
        probabilities (tuple of float): Probability of each of the K + 1 categories,
            the kept one first.
        n_masks (int): Number of masks, or the most if there is a tolerance.
        estimator (str): "control_variate", "monte_carlo" or "field".
        seed (int): Seed of the masks.
        return_std_error (bool): Whether standard errors are returned.
        tolerance (float, optional): Largest standard error at which a run stops.
        rtol (float, optional): Root mean square standard error, in units of the range
            of the map, at which a run stops.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If an argument is of the wrong type.
    """

    probabilities: tuple[float, ...]
    n_masks: int
    estimator: str
    seed: int
    return_std_error: bool
    tolerance: float | None
    rtol: float | None = None

    def __post_init__(self) -> None:
        check_choice("estimator", self.estimator, (*UNBIASED, "field"))
        self.n_masks = check_integer("n_masks", self.n_masks, 2)
        self.seed = check_integer("seed", self.seed, 0, 2**64 - 1)
        check_flags(return_std_error=self.return_std_error)
        if self.tolerance is not None:
            self.tolerance = check_positive("tolerance", self.tolerance)
        if self.rtol is not None:
            self.rtol = check_positive("rtol", self.rtol)
        if self.n_masks < 4 and self.needs_errors:
            raise ValueError(
                f"n_masks must be at least 4 for a standard error, got {self.n_masks}."
            )
        self.n_masks -= self.n_masks % self.block

    @property
    def needs_errors(self) -> bool:
        """Whether standard errors are computed."""
        return self.return_std_error or self.stops_early

    @property
    def stops_early(self) -> bool:
        """Whether a run may stop before all masks are scored."""
        return self.tolerance is not None or self.rtol is not None

    @property
    def paired(self) -> bool:
        """Whether masks are drawn in antithetic pairs and corrected by a fit."""
        return self.estimator == "control_variate"

    @property
    def block(self) -> int:
        """Number of consecutive masks that depend on each other."""
        return 2 if self.paired else 1

    def finished(self, maps: "Maps") -> Tensor:
        """Which examples have errors within the tolerances, (B,) bool.

        Args:
            maps (Maps): Maps with their errors.
        """
        n_examples = maps.values[0].shape[1]
        finished = torch.full((n_examples,), self.stops_early)
        if self.tolerance is not None:
            finished &= maps.worst_errors() <= self.tolerance
        if self.rtol is not None:
            finished &= maps.relative_errors() <= self.rtol
        return finished


class Maps(NamedTuple):
    """Maps of all inputs, and their standard errors.

    Args:
        values (tuple[Tensor, ...]): One tensor (R, B, ...) float64 per input.
        errors (tuple[Tensor, ...]): The same of the standard errors; empty if they
            are not needed.
        cell_errors (Tensor, optional): Standard errors of n cells in the unit of the
            score, (R, B, n), if elements share those of their cell. Default: None
    """

    values: tuple[Tensor, ...]
    errors: tuple[Tensor, ...]
    cell_errors: Tensor | None = None

    def worst_errors(self) -> Tensor:
        """Largest standard error of each example, of a cell if there are any, (B,)."""
        of_score = self.errors if self.cell_errors is None else (self.cell_errors,)
        worst = [error.transpose(0, 1).flatten(1).amax(1) for error in of_score]
        return torch.stack(worst).amax(0)

    def relative_errors(self) -> Tensor:
        """Largest relative error of the inputs' maps, (B,)."""
        ratios = [
            relative_errors(value.transpose(0, 1), error.transpose(0, 1))
            for value, error in zip(self.values, self.errors)
        ]
        return torch.stack(ratios).amax(0)

    def replace(self, examples: Tensor, earlier: "Maps") -> None:
        """Overwrite the maps of some examples by earlier ones.

        Args:
            examples (Tensor): Which examples, (B,) bool.
            earlier (Maps): Maps of the same inputs.
        """
        for new, old in zip(self.values + self.errors, earlier.values + earlier.errors):
            new[:, examples] = old[:, examples]


def relative_errors(maps: Tensor, errors: Tensor) -> Tensor:
    """Root mean square standard error of each map in units of its range.

    Args:
        maps (Tensor): Maps (B, ...).
        errors (Tensor): Their standard errors, (B, ...).

    Returns:
        *Tensor*: (B,); 0 where errors are 0.

    Examples::

        >>> relative_errors(torch.tensor([[0.0, 4.0]]), torch.ones(1, 2))
        tensor([0.2500])
    """
    flat = maps.flatten(1)
    spread = flat.amax(1) - flat.amin(1)
    typical = errors.flatten(1).square().mean(1).sqrt()
    return typical / spread.clamp_min(torch.finfo(spread.dtype).tiny)


class Run(ABC):
    """Masks of one batch, scored until the maps that follow are exact enough.

    A subclass implements :meth:`checkpoints` and :meth:`summarize`.

    Args:
        layout (MaskLayout): How cells spread over the inputs.
        sampling (Sampling): When enough masks are scored.
        inputs (tuple[Tensor, ...]): Inputs (B, ...).
        fills (sequence of sequence of Tensor): The K fills of each input.
        score (ChunkedScores): Scores masked inputs.
        contrast (Callable): Linear map from the categories (K + 1, ...) to the R maps
            of an example (R, ...).
        codes (MaskCodes): The masks in the order of their passes.
    """

    def __init__(
        self,
        layout: MaskLayout,
        sampling: Sampling,
        inputs: tuple[Tensor, ...],
        fills: Sequence[Sequence[Tensor]],
        score: ChunkedScores,
        contrast: Callable[[Tensor], Tensor],
        codes: MaskCodes,
    ) -> None:
        self._layout, self._sampling = layout, sampling
        self._inputs, self._fills = inputs, fills
        self._score, self._contrast = score, contrast
        self._codes = codes
        self._device = inputs[0].device
        self._placed_codes = codes.to(self._device)

    @abstractmethod
    def checkpoints(self) -> Iterator[int]:
        """Numbers of masks after which the errors are compared with the tolerance."""

    @abstractmethod
    def summarize(self, scores: Tensor) -> Maps:
        """Maps from the scores (M, B) of the first M masks."""

    def maps(self, update: Callable[[int], object]) -> Maps:
        """Score masks until the errors of all examples are within the tolerance.

        An example keeps the map that first met the tolerance, so that it does not
        depend on the other examples of its batch.

        Args:
            update (Callable): Called with the number of masks of each chunk.
        """
        scores: list[Tensor] = []
        n_scored = 0
        finished = torch.tensor(False)
        earlier: Maps | None = None
        for n in self.checkpoints():
            scores.append(self._score(self._perturb, n_scored, n, update))
            n_scored = n
            known = torch.cat(scores)
            check_finite_scores(known)
            with full_precision(self._device):
                maps = self.summarize(known)
            if earlier is not None:
                maps.replace(finished, earlier)
            finished = finished | self._sampling.finished(maps)
            if finished.all():
                break
            earlier = maps
        return maps

    def _perturb(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Inputs (n * B, ...) under the masks of a range."""
        codes = self._placed_codes[start:stop]
        cells = codes.indicators(len(self._fills[0]))
        with full_precision(self._device):
            masks = self._layout.expand(cells, codes.shifts)
        # The first masks show whether a user's layout is right.
        apply = replaced if start else apply_masks
        return tuple(map(apply, self._inputs, self._fills, masks))


class MaskedRun(Run):
    """Random masks of one batch, and the maps that follow from their scores.

    Args:
        layout (MaskLayout): How cells spread over the inputs.
        sampling (Sampling): Which masks are drawn.
        inputs (tuple[Tensor, ...]): Inputs (B, ...).
        fills (sequence of sequence of Tensor): The K fills of each input.
        score (ChunkedScores): Scores masked inputs.
        contrast (Callable): Linear map from the categories (K + 1, ...) to the R maps
            of an example (R, ...).
    """

    def __init__(
        self,
        layout: MaskLayout,
        sampling: Sampling,
        inputs: tuple[Tensor, ...],
        fills: Sequence[Sequence[Tensor]],
        score: ChunkedScores,
        contrast: Callable[[Tensor], Tensor],
    ) -> None:
        generator = torch.Generator().manual_seed(sampling.seed)
        codes = draw_masks(
            layout, sampling.probabilities, sampling.n_masks, generator, sampling.paired
        )
        super().__init__(layout, sampling, inputs, fills, score, contrast, codes)

    def checkpoints(self) -> Iterator[int]:
        """Numbers of masks after which the errors are compared with the tolerance."""
        sampling = self._sampling
        if sampling.stops_early:
            # An error means little before the rarest category was drawn a few times.
            n = max(64, math.ceil(16 / min(sampling.probabilities)) // 2 * 2)
            while n < sampling.n_masks:
                yield n
                # A comparison costs about as much as a mask; growth limits its share.
                n = 3 * n // 4 * 2
        yield sampling.n_masks

    def summarize(self, scores: Tensor) -> Maps:
        """Maps from the scores (M, B) of the first M masks."""
        layout, codes = self._layout, self._codes[: len(scores)]
        probabilities, block = self._sampling.probabilities, self._sampling.block
        if self._sampling.paired:
            fit = cross_fit(layout, codes, probabilities, scores, block)
        else:
            fit = uncontrolled(scores)
        means = conditional_means(layout, codes, probabilities, fit)
        values = tuple(map(self._contrast, means))
        if not self._sampling.needs_errors:
            return Maps(values, ())
        errors = standard_errors(
            layout, codes, probabilities, fit, block, self._contrast, self._device
        )
        return Maps(values, tuple(error.cpu().double() for error in errors))
