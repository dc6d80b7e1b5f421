"""The loop that RISE, PN-RISE and MC-RISE share."""

from itertools import accumulate, repeat, takewhile
from typing import Callable, NamedTuple, Sequence

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_ext._captum import (
    NullProgress,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    progress,
)
from captum_ext._scores import ChunkedScores, PerturbationsPerEval
from captum_ext._validation import (
    check_choice,
    check_feature_mask,
    check_grid_size,
    check_integer,
    check_perturbations_per_eval,
    check_positive,
    check_scores,
    check_target,
)
from captum_ext.attr.estimators import (
    conditional_means,
    cross_fit,
    standard_errors,
    uncontrolled,
)
from captum_ext.masks import (
    GridLayout,
    MaskLayout,
    ProductLayout,
    RegionLayout,
    apply_masks,
    draw_masks,
)

__all__ = [
    "Attributions",
    "GridSize",
    "MaskSettings",
    "RandomMaskAttribution",
    "expanded_as",
    "stored_as",
]

GridSize = int | Sequence[int] | None
Contrast = Callable[[Tensor], Tensor]
Maps = Tensor | tuple[Tensor, ...]
Attributions = Maps | tuple[Maps, Maps]

_ESTIMATORS = ("control_variate", "monte_carlo")
_DEFAULT_GRID = 7


class MaskSettings(NamedTuple):
    """Arguments of ``attribute`` that all methods of the family share."""

    target: TargetType
    additional_forward_args: object
    feature_mask: Tensor | tuple[Tensor, ...] | None
    n_masks: int
    grid_size: GridSize
    estimator: str
    perturbations_per_eval: PerturbationsPerEval
    seed: int
    return_std_error: bool
    tolerance: float | None
    show_progress: bool


class RandomMaskAttribution(PerturbationAttribution):
    """Maps that are linear in the mean score of each category of a random mask.

    A subclass names the probabilities of the categories, what fills the holes, and
    the contrast of the conditional means that is its map.
    """

    name: str

    def get_name(self) -> str:
        """Name of the method as its paper writes it."""
        return self.name

    def _estimate(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        fills: Sequence[Sequence[Tensor]],
        probabilities: Sequence[float],
        contrast: Contrast,
        shape: Callable[[Tensor, Tensor], Tensor],
        settings: MaskSettings,
    ) -> Attributions:
        """Contrast of the conditional means, and its standard error if it is wanted.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs (B, ...).
            fills (sequence of sequence of Tensor): The K fills of each input.
            probabilities (sequence of float): pi_0..pi_K.
            contrast (Callable): Linear map from (K + 1, ...) to (R, ...).
            shape (Callable): Brings maps (R, B, ...) into the shape in which the
                method returns them, given the maps and their input.
            settings (MaskSettings): The other arguments.
        """
        tensors = format_tensor_into_tuples(inputs)
        maps, errors = self._maps(tensors, fills, probabilities, contrast, settings)
        results = [
            format_output(is_tuple(inputs), tuple(map(shape, part, tensors)))
            for part in (maps, errors)
            if part
        ]
        return (results[0], results[1]) if settings.return_std_error else results[0]

    def _maps(
        self,
        inputs: tuple[Tensor, ...],
        fills: Sequence[Sequence[Tensor]],
        probabilities: Sequence[float],
        contrast: Contrast,
        settings: MaskSettings,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        n_examples = _check(inputs, settings)
        layout = _layout(inputs, settings.feature_mask, settings.grid_size)
        block = 2 if settings.estimator == "control_variate" else 1
        n_masks = settings.n_masks // block * block
        generator = torch.Generator().manual_seed(settings.seed)
        codes = draw_masks(layout, probabilities, n_masks, generator, block == 2)
        device = inputs[0].device
        n_fills = len(probabilities) - 1

        def perturb(start: int, stop: int) -> tuple[Tensor, ...]:
            rows = codes[start:stop]
            cells = rows.indicators(n_fills).to(device)
            masks = layout.expand(cells, rows.shifts.to(device))
            return tuple(map(apply_masks, inputs, fills, masks))

        def summarize(scores: Tensor) -> tuple[tuple[Tensor, ...], ...]:
            seen = codes[: len(scores)]
            if block == 2:
                fit = cross_fit(layout, seen, probabilities, scores, block)
            else:
                fit = uncontrolled(scores)
            means = conditional_means(layout, seen, probabilities, fit)
            maps = tuple(contrast(mean) for mean in means)
            if not (settings.return_std_error or settings.tolerance):
                return maps, ()
            errors = standard_errors(
                layout, seen, probabilities, fit, block, contrast, device
            )
            return maps, tuple(error.cpu().double() for error in errors)

        score = ChunkedScores(
            self.forward_func,
            n_examples,
            settings.target,
            settings.additional_forward_args,
            settings.perturbations_per_eval,
        )
        bar = (
            progress(total=n_masks, desc=f"{self.get_name()} masks")
            if settings.show_progress
            else NullProgress()
        )
        with bar:
            return _run(score, perturb, summarize, n_masks, settings, bar.update)


def expanded_as(maps: Tensor, tensor: Tensor) -> Tensor:
    """One map an example, (1, B, ...), in the shape, dtype and device of an input."""
    shared = stored_as(maps[0], tensor)
    return shared.expand(len(shared), *tensor.shape[1:]).contiguous()


def stored_as(maps: Tensor, tensor: Tensor) -> Tensor:
    """Maps on the device and in the dtype of an input, float32 for integers."""
    dtype = tensor.dtype if tensor.is_floating_point() else torch.float32
    return maps.to(tensor.device, dtype)


def _run(
    score: ChunkedScores,
    perturb: Callable[[int, int], tuple[Tensor, ...]],
    summarize: Callable[[Tensor], tuple[tuple[Tensor, ...], ...]],
    n_masks: int,
    settings: MaskSettings,
    update: Callable[[int], object],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Score masks until every example is as exact as asked for.

    An example keeps the map it had when it became exact enough, so that its map does
    not depend on the company it is in.
    """
    scores: Tensor | None = None
    kept: list[Tensor] = []
    open_examples: Tensor | None = None
    n_scored = 0
    for n in _checkpoints(n_masks, settings.tolerance):
        new = score(perturb, n_scored, n, update)
        scores = new if scores is None else torch.cat([scores, new])
        n_scored = n
        check_scores(scores)
        maps, errors = summarize(scores)
        results = [*maps, *errors]
        if open_examples is None:
            kept = results
            open_examples = torch.ones(scores.shape[1], dtype=torch.bool)
        for old, result in zip(kept, results):
            old[:, open_examples] = result[:, open_examples]
        if settings.tolerance:
            worst = [error.transpose(0, 1).flatten(1).amax(1) for error in errors]
            exact = torch.stack(worst).amax(0) <= settings.tolerance
            open_examples &= ~exact
            if not open_examples.any():
                break
    n_inputs = len(maps)
    return tuple(kept[:n_inputs]), tuple(kept[n_inputs:])


def _checkpoints(n_masks: int, tolerance: float | None) -> list[int]:
    """Numbers of masks after which the error is looked at."""
    if not tolerance:
        return [n_masks]
    # Looking costs about as much as a mask; growing by half keeps that a small share.
    grown = accumulate(repeat(64), lambda n, _: 3 * n // 4 * 2)
    return [*takewhile(lambda n: n < n_masks, grown), n_masks]


def _check(inputs: tuple[Tensor, ...], settings: MaskSettings) -> int:
    n_examples = len(inputs[0])
    check_target(settings.target, n_examples)
    check_integer("n_masks", settings.n_masks, 2)
    check_integer("seed", settings.seed, 0)
    check_choice("estimator", settings.estimator, _ESTIMATORS)
    check_perturbations_per_eval(settings.perturbations_per_eval)
    wants_error = settings.return_std_error or settings.tolerance is not None
    if settings.tolerance is not None:
        check_positive("tolerance", settings.tolerance)
    if wants_error and settings.n_masks < 4:
        raise ValueError(
            f"n_masks must be at least 4 for a standard error, got "
            f"{settings.n_masks}."
        )
    return n_examples


def _layout(
    inputs: tuple[Tensor, ...],
    feature_mask: Tensor | tuple[Tensor, ...] | None,
    grid_size: GridSize,
) -> MaskLayout:
    """Regions where they are given, columns of tables, a grid for all else."""
    if feature_mask is not None:
        return RegionLayout(check_feature_mask(feature_mask, inputs))
    layouts: list[MaskLayout] = []
    for tensor in inputs:
        grid = check_grid_size(grid_size, tensor, _DEFAULT_GRID)
        if grid is None:
            columns = torch.arange(tensor[0].numel()).view(1, *tensor.shape[1:])
            layouts.append(RegionLayout([columns]))
        else:
            layouts.append(GridLayout(tensor.shape[2:], grid))
    return ProductLayout(layouts)
