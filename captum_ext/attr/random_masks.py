"""The loop that RISE, PN-RISE and MC-RISE share."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_ext._captum import (
    NullProgress,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_additional_forward_args,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    progress,
)
from captum_ext._scores import ChunkedScores, PerturbationsPerEval
from captum_ext._validation import (
    check_choice,
    check_grid_size,
    check_integer,
    check_perturbations_per_eval,
    check_positive,
    check_range,
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
    """Arguments of ``attribute`` that all methods of the family share.

    Of these ``feature_mask`` is checked already, by a method that knows what it takes.
    """

    target: TargetType
    additional_forward_args: object
    feature_mask: tuple[Tensor, ...] | None
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
        settings = _checked(settings, len(tensors[0]))
        parts = [
            self._maps(*batch, probabilities, contrast)
            for batch in _sharing_regions(tensors, fills, settings)
        ]
        results = [
            format_output(is_tuple(inputs), tuple(map(shape, joined, tensors)))
            for joined in map(_joined, zip(*parts))
            if joined
        ]
        return (results[0], results[1]) if settings.return_std_error else results[0]

    def _maps(
        self,
        inputs: tuple[Tensor, ...],
        fills: Sequence[Sequence[Tensor]],
        settings: MaskSettings,
        probabilities: Sequence[float],
        contrast: Contrast,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        n_examples = len(inputs[0])
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
            steps = _checkpoints(n_masks, settings.tolerance, probabilities)
            return _run(
                score, perturb, summarize, steps, settings.tolerance, bar.update
            )


def _sharing_regions(
    inputs: tuple[Tensor, ...],
    fills: Sequence[Sequence[Tensor]],
    settings: MaskSettings,
) -> Iterator[tuple[tuple[Tensor, ...], Sequence[Sequence[Tensor]], MaskSettings]]:
    """The batch, or its examples one by one if each has regions of its own.

    Masks must not depend on the batch, and masks of an example's own regions cannot be
    shared.
    """
    regions = settings.feature_mask or ()
    if all(len(region) == 1 for region in regions):
        yield inputs, fills, settings
        return
    n_examples = len(inputs[0])
    args = format_additional_forward_args(settings.additional_forward_args)
    for i in range(n_examples):
        yield (
            tuple(tensor[i : i + 1] for tensor in inputs),
            [
                [_example(fill, i) if fill.dim() == x.dim() else fill for fill in each]
                for each, x in zip(fills, inputs)
            ],
            settings._replace(
                target=_target_of(settings.target, i),
                additional_forward_args=args and tuple(_example(a, i) for a in args),
                feature_mask=tuple(_example(region, i) for region in regions),
            ),
        )


def _example(value: Any, i: int) -> Any:
    """Example i of a tensor over the batch; all else belongs to every example."""
    if isinstance(value, Tensor) and value.dim() and len(value) > 1:
        return value[i : i + 1]
    return value


def _target_of(target: TargetType, i: int) -> TargetType:
    return [target[i]] if isinstance(target, list) else _example(target, i)


def _joined(parts: tuple[tuple[Tensor, ...], ...]) -> tuple[Tensor, ...]:
    """Maps (R, B, ...) of several batches as those of one."""
    return tuple(torch.cat(maps, dim=1) for maps in zip(*parts))


def expanded_as(maps: Tensor, tensor: Tensor) -> Tensor:
    """One map an example, (1, B, ...), in the shape, dtype and device of an input."""
    shared = stored_as(maps[0], tensor)
    return shared.expand(len(shared), *tensor.shape[1:]).contiguous()


def stored_as(maps: Tensor, tensor: Tensor) -> Tensor:
    """Maps on the device and in the dtype of an input, float32 for integers."""
    dtype = tensor.dtype if tensor.is_floating_point() else torch.float32
    # Maps are float64 on the CPU; some devices have none.
    return check_range(maps, dtype).to(tensor.device)


def _run(
    score: ChunkedScores,
    perturb: Callable[[int, int], tuple[Tensor, ...]],
    summarize: Callable[[Tensor], tuple[tuple[Tensor, ...], ...]],
    checkpoints: Iterable[int],
    tolerance: float | None,
    update: Callable[[int], object],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Score masks until every example is as exact as asked for.

    An example keeps the map it had when it became exact enough, so that its map does
    not depend on the company it is in.
    """
    scores: list[Tensor] = []
    kept: tuple[tuple[Tensor, ...], ...] = ()
    exact = torch.empty(0, dtype=torch.bool)
    n_scored = 0
    for n in checkpoints:
        scores.append(score(perturb, n_scored, n, update))
        n_scored = n
        seen = torch.cat(scores)
        check_scores(seen)
        results = summarize(seen)
        for olds, news in zip(kept, results):
            for old, new in zip(olds, news):
                new[:, exact] = old[:, exact]
        kept = results
        if tolerance:
            worst = [error.transpose(0, 1).flatten(1).amax(1) for error in kept[1]]
            exact = torch.stack(worst).amax(0) <= tolerance
            if exact.all():
                break
    return kept[0], kept[1]


def _checkpoints(
    n_masks: int, tolerance: float | None, probabilities: Sequence[float]
) -> Iterator[int]:
    """Numbers of masks after which the error is looked at."""
    if tolerance:
        # The rarest category has to be seen some times before its error means much.
        n = max(64, math.ceil(16 / min(probabilities)) // 2 * 2)
        while n < n_masks:
            yield n
            # Looking costs about as much as a mask: growth keeps that a small share.
            n = 3 * n // 4 * 2
    yield n_masks


def _checked(settings: MaskSettings, n_examples: int) -> MaskSettings:
    """The settings with Python's integers; refuse any that are out of range."""
    check_target(settings.target, n_examples)
    check_choice("estimator", settings.estimator, _ESTIMATORS)
    n_masks = check_integer("n_masks", settings.n_masks, 2)
    seed = check_integer("seed", settings.seed, 0, 2**64 - 1)
    chunk = check_perturbations_per_eval(settings.perturbations_per_eval)
    if settings.feature_mask is not None and settings.grid_size is not None:
        raise ValueError(
            f"grid_size must be None where feature_mask gives the regions, got "
            f"{settings.grid_size}."
        )
    if settings.tolerance is not None:
        check_positive("tolerance", settings.tolerance)
    if n_masks < 4 and (settings.return_std_error or settings.tolerance):
        raise ValueError(
            f"n_masks must be at least 4 for a standard error, got {n_masks}."
        )
    return settings._replace(n_masks=n_masks, seed=seed, perturbations_per_eval=chunk)


def _layout(
    inputs: tuple[Tensor, ...],
    regions: tuple[Tensor, ...] | None,
    grid_size: GridSize,
) -> MaskLayout:
    """Regions where they are given, columns of tables, a grid for all else."""
    if regions is not None:
        return RegionLayout(regions)
    layouts: list[MaskLayout] = []
    for tensor, grid in zip(inputs, check_grid_size(grid_size, inputs, _DEFAULT_GRID)):
        if grid is None:
            columns = torch.arange(tensor[0].numel()).view(1, *tensor.shape[1:])
            layouts.append(RegionLayout([columns]))
        else:
            layouts.append(GridLayout(tensor.shape[2:], grid))
    return ProductLayout(layouts)
