"""One run of random masks over a batch: drawn, scored and summarized as maps."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from captum_ext._scores import ChunkedScores
from captum_ext._validation import (
    check_choice,
    check_integer,
    check_positive,
    check_scores,
)
from captum_ext.attr.estimators import (
    conditional_means,
    cross_fit,
    standard_errors,
    uncontrolled,
)
from captum_ext.masks import MaskCodes, MaskLayout, apply_masks, draw_masks

__all__ = ["UNBIASED", "MaskedRun", "Maps", "Sampling"]

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
        if self.tolerance is not None:
            check_positive("tolerance", self.tolerance)
        if self.rtol is not None:
            check_positive("rtol", self.rtol)
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

    def draw(self, layout: MaskLayout) -> MaskCodes:
        """Draw all masks."""
        generator = torch.Generator().manual_seed(self.seed)
        return draw_masks(
            layout, self.probabilities, self.n_masks, generator, self.paired
        )

    def checkpoints(self) -> Iterator[int]:
        """Numbers of masks after which the errors are compared with the tolerance."""
        if self.stops_early:
            # An error means little before the rarest category was drawn a few times.
            n = max(64, math.ceil(16 / min(self.probabilities)) // 2 * 2)
            while n < self.n_masks:
                yield n
                # A comparison costs about as much as a mask; growth limits its share.
                n = 3 * n // 4 * 2
        yield self.n_masks

    def finished(self, maps: "Maps", worst: Tensor | None = None) -> Tensor:
        """Which examples have errors within the tolerances, (B,) bool.

        Args:
            maps (Maps): Maps with their errors.
            worst (Tensor, optional): Error of each example that is compared with
                ``tolerance``, (B,). Default: None (the largest of its maps)
        """
        n_examples = maps.values[0].shape[1]
        finished = torch.full((n_examples,), self.stops_early)
        if self.tolerance is not None:
            worst = maps.worst_errors() if worst is None else worst
            finished &= worst <= self.tolerance
        if self.rtol is not None:
            finished &= maps.relative_errors() <= self.rtol
        return finished


class Maps(NamedTuple):
    """Maps of all inputs, and their standard errors.

    Args:
        values (tuple[Tensor, ...]): One tensor (R, B, ...) float64 per input.
        errors (tuple[Tensor, ...]): The same of the standard errors; empty if they
            are not needed.
    """

    values: tuple[Tensor, ...]
    errors: tuple[Tensor, ...]

    def worst_errors(self) -> Tensor:
        """Largest standard error of each example, (B,)."""
        worst = [error.transpose(0, 1).flatten(1).amax(1) for error in self.errors]
        return torch.stack(worst).amax(0)

    def relative_errors(self) -> Tensor:
        """Root mean square standard error over the range of each example's map, (B,).

        The largest ratio of the inputs; 0 where errors are 0.
        """
        ratios = []
        for value, error in zip(self.values, self.errors):
            flat, errors = (t.transpose(0, 1).flatten(1) for t in (value, error))
            spread = flat.amax(1) - flat.amin(1)
            ratios.append(errors.square().mean(1).sqrt() / spread.clamp_min(1e-300))
        return torch.stack(ratios).amax(0)

    def replace(self, examples: Tensor, earlier: "Maps") -> None:
        """Overwrite the maps of some examples by earlier ones.

        Args:
            examples (Tensor): Which examples, (B,) bool.
            earlier (Maps): Maps of the same inputs.
        """
        for new, old in zip(self.values + self.errors, earlier.values + earlier.errors):
            new[:, examples] = old[:, examples]


class MaskedRun:
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
        self._layout, self._sampling = layout, sampling
        self._inputs, self._fills = inputs, fills
        self._score, self._contrast = score, contrast
        self._codes = sampling.draw(layout)
        self._device = inputs[0].device

    def maps(self, update: Callable[[int], object]) -> Maps:
        """Score masks until the errors of all examples are within the tolerance.

        An example keeps the map that first met the tolerance, so that it does not
        depend on the other examples of its batch.

        Args:
            update (Callable): Called with the number of masks of each chunk.
        """
        scores: list[Tensor] = []
        n_scored = 0
        finished = torch.empty(0, dtype=torch.bool)
        earlier: Maps | None = None
        for n in self._sampling.checkpoints():
            scores.append(self._score(self._perturb, n_scored, n, update))
            n_scored = n
            maps = self._summarize(torch.cat(scores))
            if earlier is not None:
                maps.replace(finished, earlier)
            finished = self._sampling.finished(maps)
            if finished.all():
                break
            earlier = maps
        return maps

    def _perturb(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Inputs (n * B, ...) under the masks of a range."""
        codes = self._codes[start:stop]
        cells = codes.indicators(len(self._fills[0])).to(self._device)
        masks = self._layout.expand(cells, codes.shifts.to(self._device))
        return tuple(map(apply_masks, self._inputs, self._fills, masks))

    def _summarize(self, scores: Tensor) -> Maps:
        """Maps from the scores (M, B) of the first M masks."""
        check_scores(scores)
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
