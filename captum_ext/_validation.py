"""The one place where arguments are checked, before any forward pass is spent.

Every message names the argument, says what came and what was expected.
"""

import math
from typing import Sequence

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
    "check_perturbations_per_eval",
    "check_positive",
    "check_probability",
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
    elif not isinstance(baselines, tuple):
        baselines = (baselines,)
    if len(baselines) != len(inputs):
        raise ValueError(
            f"baselines must hold one entry for each of the {len(inputs)} inputs, got "
            f"{len(baselines)}."
        )
    formatted = []
    for baseline, tensor in zip(baselines, inputs):
        if not isinstance(baseline, (Tensor, int, float)):
            raise TypeError(
                f"baselines must be numbers, tensors or None, got "
                f"{type(baseline).__name__}."
            )
        value = torch.as_tensor(baseline, device=tensor.device)
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


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == torch.Size(to)
    except RuntimeError:
        return False


def check_target(target: TargetType, n_examples: int) -> None:
    """Refuse a target of no known form, or with another number of examples."""
    if target is None or isinstance(target, (int, tuple)):
        return
    if not isinstance(target, (list, Tensor)):
        raise TypeError(
            f"target must be an int, tuple, tensor or list, got "
            f"{type(target).__name__}."
        )
    n_targets = target.numel() if isinstance(target, Tensor) else len(target)
    single = isinstance(target, Tensor) and n_targets == 1
    if not single and n_targets != n_examples:
        raise ValueError(
            f"target must hold one index for each of the {n_examples} examples, got "
            f"{n_targets}."
        )


def check_probability(name: str, value: float) -> None:
    """Refuse what is not strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}.")


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a finite positive number."""
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive number, got {value}.")


def check_integer(name: str, value: int, least: int) -> None:
    """Refuse what is not an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a name that is not among the choices."""
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}."
        )


def check_perturbations_per_eval(value: int | str) -> None:
    """Refuse what is neither "auto" nor an integer of at least 1."""
    if isinstance(value, str):
        check_choice("perturbations_per_eval", value, ("auto",))
    else:
        check_integer("perturbations_per_eval", value, 1)


def check_feature_mask(
    feature_mask: Tensor | tuple[Tensor, ...], inputs: tuple[Tensor, ...]
) -> list[Tensor]:
    """Integer regions (1 or B, ...) with as many axes as their input."""
    masks = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,)
    if len(masks) != len(inputs):
        raise ValueError(
            f"feature_mask must hold one tensor for each of the {len(inputs)} inputs, "
            f"got {len(masks)}."
        )
    formatted = []
    for mask, tensor in zip(masks, inputs):
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
    return formatted


def check_shared_by_channels(
    feature_mask: Tensor | tuple[Tensor, ...] | None, inputs: tuple[Tensor, ...]
) -> None:
    """Refuse regions that differ between the channels of a pixel."""
    if feature_mask is None:
        return
    for regions, tensor in zip(check_feature_mask(feature_mask, inputs), inputs):
        if tensor.dim() > 2 and regions.shape[1] != 1:
            raise ValueError(
                f"feature_mask must be the same for all channels, of shape "
                f"{(1, 1, *tensor.shape[2:])}, got {tuple(regions.shape)}."
            )


def check_colors(
    colors: Tensor | tuple[Tensor, ...], inputs: tuple[Tensor, ...]
) -> list[list[Tensor]]:
    """The K colours of each input, broadcastable to it, in its dtype and device."""
    palettes = colors if isinstance(colors, tuple) else (colors,)
    if len(palettes) != len(inputs):
        raise ValueError(
            f"colors must hold one tensor for each of the {len(inputs)} inputs, got "
            f"{len(palettes)}."
        )
    formatted = []
    for palette, tensor in zip(palettes, inputs):
        if not isinstance(palette, Tensor):
            raise TypeError(
                f"colors must be a tensor or a palette, got {type(palette).__name__}."
            )
        width = tensor.shape[1] if tensor.dim() > 2 else 1
        each = palette.dim() == 3 and len(palette) == len(tensor)
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
    grid_size: int | Sequence[int] | None, tensor: Tensor, default: int
) -> tuple[int, ...] | None:
    """Cells along each axis behind the channels; None for a table without any."""
    size = tuple(tensor.shape[2:])
    if grid_size is None:
        return tuple(min(default, n) for n in size) or None
    if not size:
        raise ValueError(
            f"grid_size needs inputs with channels and a further axis, got inputs of "
            f"shape {tuple(tensor.shape)}."
        )
    grid = (grid_size,) * len(size) if isinstance(grid_size, int) else tuple(grid_size)
    if len(grid) != len(size):
        raise ValueError(
            f"grid_size must be an int or {len(size)} ints for inputs of shape "
            f"{tuple(tensor.shape)}, got {grid_size}."
        )
    for cells, pixels in zip(grid, size):
        check_integer("grid_size", cells, 1)
        if cells > pixels:
            raise ValueError(
                f"grid_size must not exceed the input's {size} pixels, got "
                f"{grid_size}."
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
