"""Checks of arguments that several rooms share, made before any forward pass.

Every message names the argument, the value and what was expected.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, SupportsIndex

import torch
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType

__all__ = [
    "broadcasts",
    "check_attributions",
    "check_baselines",
    "check_choice",
    "check_finite_scores",
    "check_image",
    "check_inputs",
    "check_integer",
    "check_not_negative",
    "check_output_type",
    "check_perturbations_per_eval",
    "check_positive",
    "check_probabilities",
    "check_probability",
    "check_scores",
    "check_target",
    "check_unused",
    "one_per_input",
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
    for baseline, tensor in zip(one_per_input("baselines", baselines, inputs), inputs):
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
        if not broadcasts(value.shape, tensor.shape):
            raise ValueError(
                f"baselines must broadcast to inputs of shape {tuple(tensor.shape)}, "
                f"got shape {tuple(value.shape)}."
            )
        if not torch.isfinite(value).all():
            raise ValueError("baselines must be finite, got NaN or infinite values.")
        formatted.append(value)
    return tuple(formatted)


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


def check_not_negative(name: str, value: float) -> None:
    """Refuse what is not a finite number of at least 0."""
    if not 0 <= _number(name, value) < math.inf:
        raise ValueError(f"{name} must be a number of at least 0, got {value}.")


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


def check_unused(name: str, choice: object, values: Mapping[str, object]) -> None:
    """Refuse arguments that have no meaning for the choice of another argument."""
    for unused, value in values.items():
        if value is not None:
            raise ValueError(
                f"{unused} must be None if {name} is {choice!r}, got {value!r}."
            )


def check_perturbations_per_eval(
    value: int | Literal["auto"],
) -> int | Literal["auto"]:
    """The value as an int, or "auto"; refuse what is neither."""
    if isinstance(value, str):
        check_choice("perturbations_per_eval", value, ("auto",))
        return "auto"
    return check_integer("perturbations_per_eval", value, 1)


def check_scores(scores: Tensor) -> None:
    """Refuse scores (M, B) with NaN or infinite values, saying for how many masks."""
    n_bad = int((~torch.isfinite(scores)).any(dim=1).sum())
    if n_bad:
        raise ValueError(
            f"forward_func must return finite scores, got NaN or infinity for {n_bad} "
            f"of {len(scores)} masks."
        )


def check_image(inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The one tensor of images (B, C, H, W) that inputs hold."""
    tensors = check_inputs(inputs)
    if len(tensors) != 1 or tensors[0].dim() != 4:
        raise ValueError(
            f"inputs must be one tensor of images (B, C, H, W), got "
            f"{', '.join(str(tuple(t.shape)) for t in tensors)}; give what else the "
            f"model takes as additional_forward_args."
        )
    if not tensors[0].is_floating_point():
        raise TypeError(
            f"inputs must be floating point to be resized, got {tensors[0].dtype}."
        )
    return tensors[0]


def check_output_type(output: object) -> Tensor:
    """The output of a forward function as a tensor; refuse what holds no numbers."""
    try:
        return torch.as_tensor(output)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"forward_func must return a tensor or a number, got "
            f"{type(output).__name__}."
        ) from None


def check_attributions(
    maps: Tensor | tuple[Tensor, ...], inputs: Tensor, name: str = "attributions"
) -> Tensor:
    """One finite map an example, with as many axes as the input."""
    if isinstance(maps, tuple) and len(maps) == 1:
        maps = maps[0]
    if not isinstance(maps, Tensor):
        raise TypeError(
            f"{name} must be one tensor or a tuple of one, got {type(maps).__name__}."
        )
    if maps.dim() != inputs.dim() or len(maps) != len(inputs) or not maps.numel():
        raise ValueError(
            f"{name} must have {inputs.dim()} axes and {len(inputs)} maps for "
            f"inputs of shape {tuple(inputs.shape)}, got shape {tuple(maps.shape)}."
        )
    n_bad = int((~torch.isfinite(maps)).sum())
    if n_bad:
        raise ValueError(
            f"{name} must be finite, got {n_bad} NaN or infinite values among "
            f"{maps.numel()}."
        )
    return maps.detach()


def one_per_input(
    name: str, values: Any, inputs: tuple[Tensor, ...]
) -> tuple[Any, ...]:
    """Values as a tuple with one entry per input."""
    entries = values if isinstance(values, tuple) else (values,)
    if len(entries) != len(inputs):
        raise ValueError(
            f"{name} must hold one entry for each of the {len(inputs)} inputs, got "
            f"{len(entries)}."
        )
    return entries


def broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether a tensor of one shape can be expanded to another."""
    try:
        return torch.broadcast_shapes(shape, to) == torch.Size(to)
    except RuntimeError:
        return False


def check_finite_scores(scores: Tensor) -> None:
    """Refuse NaN and infinite scores."""
    n_bad = int((~torch.isfinite(scores)).sum())
    if n_bad:
        raise ValueError(
            f"forward_func must return finite scores, got NaN or infinity for {n_bad} "
            f"of {scores.numel()} examples."
        )


def check_probabilities(scores: Tensor) -> None:
    """Refuse scores that are not finite numbers in [0, 1]."""
    check_finite_scores(scores)
    # A softmax in half precision may exceed 1 by its rounding.
    if not ((scores >= -1e-3) & (scores <= 1 + 1e-3)).all():
        raise ValueError(
            f"forward_func must return probabilities, got scores from "
            f"{float(scores.min()):.3g} to {float(scores.max()):.3g}."
        )
