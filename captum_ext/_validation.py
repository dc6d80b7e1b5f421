"""The one place where arguments are checked, before any forward pass is spent.

Every message names the argument, says what came and what was expected.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex

import torch
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType

__all__ = [
    "check_baselines",
    "check_choice",
    "check_colors",
    "check_feature_mask",
    "check_grid_size",
    "check_inputs",
    "check_integer",
    "check_output_type",
    "check_perturbations_per_eval",
    "check_positive",
    "check_probability",
    "check_range",
    "check_scores",
    "check_shared_by_channels",
    "check_target",
]


def check_inputs(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs as a tuple of tensors with one batch size and finite numbers."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"inputs must be a tensor or a tuple of tensors, got "
                f"{type(tensor).__name__}."
            )
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise ValueError(
                f"inputs must hold at least one example, got a tensor of shape "
                f"{tuple(tensor.shape)}."
            )
        n_bad = int((~torch.isfinite(tensor)).sum())
        if n_bad:
            raise ValueError(
                f"inputs must be finite, got {n_bad} NaN or infinite values among "
                f"{tensor.numel()}."
            )
    sizes = {len(tensor) for tensor in tensors}
    if len(sizes) != 1:
        raise ValueError(
            f"inputs must be tensors of one batch size, got {sorted(sizes)} examples."
        )
    return tensors


def check_baselines(
    baselines: BaselineType, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Baselines as one tensor an input, broadcastable, in its dtype and device."""
    if baselines is None:
        baselines = (0,) * len(inputs)
    formatted = []
    for baseline, tensor in zip(_one_each("baselines", baselines, inputs), inputs):
        if not isinstance(baseline, (Tensor, int, float)):
            raise TypeError(
                f"baselines must be numbers, tensors or None, got "
                f"{type(baseline).__name__}."
            )
        value = torch.as_tensor(baseline, device=tensor.device)
        if value.is_floating_point() and not tensor.is_floating_point():
            raise ValueError(
                f"baselines must be integers for inputs of {tensor.dtype}, got "
                f"{value.dtype}."
            )
        value = value.to(tensor.dtype)
        if not _broadcasts(value.shape, tensor.shape):
            raise ValueError(
                f"baselines must broadcast to inputs of shape {tuple(tensor.shape)}, "
                f"got shape {tuple(value.shape)}."
            )
        if not torch.isfinite(value).all():
            raise ValueError("baselines must be finite, got NaN or infinite values.")
        formatted.append(value)
    return tuple(formatted)


def _one_each(name: str, values: Any, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Values as a tuple with one entry for each input."""
    entries = values if isinstance(values, tuple) else (values,)
    if len(entries) != len(inputs):
        raise ValueError(
            f"{name} must hold one entry for each of the {len(inputs)} inputs, got "
            f"{len(entries)}."
        )
    return entries


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == torch.Size(to)
    except RuntimeError:
        return False


def check_target(target: TargetType, n_examples: int) -> None:
    """Refuse a target of no known form, or with another number of examples."""
    if isinstance(target, bool) or not (
        target is None or isinstance(target, (int, tuple, list, Tensor))
    ):
        raise TypeError(
            f"target must be an int, tuple, tensor or list, got "
            f"{type(target).__name__}."
        )
    if target is None or isinstance(target, (int, tuple)):
        return
    n_targets = target.numel() if isinstance(target, Tensor) else len(target)
    single = isinstance(target, Tensor) and n_targets == 1
    if not single and n_targets != n_examples:
        raise ValueError(
            f"target must hold one index for each of the {n_examples} examples, got "
            f"{n_targets}."
        )


def check_probability(name: str, value: float) -> None:
    """Refuse what is not strictly between 0 and 1."""
    if not 0 < _number(name, value) < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}.")


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a finite positive number."""
    if not 0 < _number(name, value) < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value}.")


def _number(name: str, value: float) -> float:
    try:
        return float(operator.mul(value, 1.0))
    except TypeError:
        raise TypeError(
            f"{name} must be a number, got {type(value).__name__}."
        ) from None


def check_integer(
    name: str, value: SupportsIndex, least: int, most: int | None = None
) -> int:
    """The value as an int; refuse what is none or lies out of range."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}.") from None
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got bool.")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}.")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}.")
    return number


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a name that is not among the choices."""
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}."
        )


def check_perturbations_per_eval(
    value: int | Literal["auto"],
) -> int | Literal["auto"]:
    """The value as an int, or "auto"; refuse what is neither."""
    if isinstance(value, str):
        check_choice("perturbations_per_eval", value, ("auto",))
        return "auto"
    return check_integer("perturbations_per_eval", value, 1)


def check_feature_mask(
    feature_mask: Tensor | tuple[Tensor, ...] | None, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...] | None:
    """Integer regions (1 or B, ...) with as many axes as their input, if any."""
    if feature_mask is None:
        return None
    formatted = []
    for mask, tensor in zip(_one_each("feature_mask", feature_mask, inputs), inputs):
        if not isinstance(mask, Tensor) or mask.is_floating_point():
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"feature_mask must hold integer tensors, got {got}.")
        if not _broadcasts(mask.shape, tensor.shape):
            raise ValueError(
                f"feature_mask must broadcast to inputs of shape "
                f"{tuple(tensor.shape)}, got shape {tuple(mask.shape)}."
            )
        missing = tensor.dim() - mask.dim()
        formatted.append(mask.reshape(*(1,) * missing, *mask.shape))
    return tuple(formatted)


def check_shared_by_channels(
    feature_mask: Tensor | tuple[Tensor, ...] | None, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...] | None:
    """Regions (1 or B, 1, ...); refuse any that differ between a pixel's channels."""
    masks = check_feature_mask(feature_mask, inputs)
    if masks is None:
        return None
    shared = []
    for regions, tensor in zip(masks, inputs):
        if tensor.dim() > 2:
            if not torch.equal(regions, regions[:, :1].expand_as(regions)):
                raise ValueError(
                    "feature_mask must be the same for all channels of a pixel, got "
                    "channels that differ."
                )
            regions = regions[:, :1]
        shared.append(regions)
    return tuple(shared)


def check_colors(
    colors: Tensor | tuple[Tensor, ...], inputs: tuple[Tensor, ...]
) -> list[list[Tensor]]:
    """The K colours of each input, broadcastable to it, in its dtype and device."""
    formatted = []
    for palette, tensor in zip(_one_each("colors", colors, inputs), inputs):
        if not isinstance(palette, Tensor):
            raise TypeError(
                f"colors must be a tensor or a palette, got {type(palette).__name__}."
            )
        width = tensor.shape[1] if tensor.dim() > 2 else 1
        each = palette.dim() == 3 and len(palette) in (1, len(tensor))
        if palette.shape[-1:] != (width,) or not (palette.dim() == 2 or each):
            raise ValueError(
                f"colors must have shape (K, {width}) or ({len(tensor)}, K, {width}) "
                f"for inputs of shape {tuple(tensor.shape)}, got "
                f"{tuple(palette.shape)}."
            )
        if palette.shape[-2] == 0 or not torch.isfinite(palette).all():
            raise ValueError(
                f"colors must hold at least one colour and finite numbers, got "
                f"{palette.tolist()}."
            )
        trailing = (1,) * (tensor.dim() - 2)
        palette = palette.to(tensor).reshape(*palette.shape, *trailing)
        formatted.append(list(palette.unbind(-2 - len(trailing))))
    if len({len(fills) for fills in formatted}) != 1:
        raise ValueError(
            f"colors must hold the same number for all inputs, got "
            f"{[len(fills) for fills in formatted]}."
        )
    return formatted


def check_grid_size(
    grid_size: int | Sequence[int] | None, inputs: tuple[Tensor, ...], default: int
) -> list[tuple[int, ...] | None]:
    """For each input the cells along each axis behind the channels, None for tables."""
    sizes = [tuple(tensor.shape[2:]) for tensor in inputs]
    if grid_size is not None and not any(sizes):
        raise ValueError(
            f"grid_size needs inputs with channels and a further axis, got inputs of "
            f"shape {tuple(inputs[0].shape)}."
        )
    grids: list[tuple[int, ...] | None] = []
    for tensor, size in zip(inputs, sizes):
        if size and not tensor.is_floating_point():
            raise TypeError(
                f"inputs must be floating point to be blended by a grid, got "
                f"{tensor.dtype}; give feature_mask to replace whole regions."
            )
        if grid_size is None:
            grids.append(tuple(min(default, n) for n in size) or None)
        else:
            grids.append(_grid_of(grid_size, size) if size else None)
    return grids


def _grid_of(grid_size: int | Sequence[int], size: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(grid_size, Sequence):
        entries = list(grid_size)
    else:
        entries = [check_integer("grid_size", grid_size, 1)] * len(size)
    if len(entries) != len(size):
        raise ValueError(
            f"grid_size must be an int or {len(size)} ints for {size} pixels, got "
            f"{grid_size}."
        )
    grid = tuple(check_integer("grid_size", cells, 1) for cells in entries)
    if any(cells > pixels for cells, pixels in zip(grid, size)):
        raise ValueError(
            f"grid_size must not exceed the input's {size} pixels, got {grid_size}."
        )
    return grid


def check_scores(scores: Tensor) -> None:
    """Refuse scores (M, B) with NaN or infinite values, saying for how many masks."""
    n_bad = int((~torch.isfinite(scores)).any(dim=1).sum())
    if n_bad:
        raise ValueError(
            f"forward_func must return finite scores, got NaN or infinity for {n_bad} "
            f"of {len(scores)} masks."
        )


def check_output_type(output: object) -> Tensor:
    """The output of a forward function as a tensor; refuse what holds no numbers."""
    try:
        return torch.as_tensor(output)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"forward_func must return a tensor or a number, got "
            f"{type(output).__name__}."
        ) from None


def check_range(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """Maps in another dtype; refuse values that it cannot hold."""
    cast = maps.to(dtype)
    if not torch.isfinite(cast).all():
        raise ValueError(
            f"forward_func must return scores whose maps fit into {dtype}, got "
            f"values up to {float(maps.abs().max()):.3g}."
        )
    return cast
