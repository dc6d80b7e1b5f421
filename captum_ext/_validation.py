"""Checks of arguments that several rooms share, made before any forward pass.

Every message names the argument, the value and what was expected.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._suggestions import did_you_mean
from captum_ext._type_checks import (
    advice_on,
    check_finite,
    check_sequence,
    check_tensor,
    plain,
    shown,
)

__all__ = [
    "UNBATCHED",
    "broadcasts",
    "check_attributions",
    "check_baselines",
    "check_choice",
    "check_finite_scores",
    "check_image",
    "check_inputs",
    "check_integer",
    "check_integers",
    "check_not_negative",
    "check_number",
    "check_perturbations_per_eval",
    "check_positive",
    "check_probabilities",
    "check_probability",
    "check_share",
    "check_target",
    "check_unused",
    "one_per_input",
]


#: Advice for an image (C, H, W) without the batch axis.
UNBATCHED = "a batch of one by inputs[None]"


def check_inputs(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs as a tuple of finite tensors, checked to have the same batch size."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors:
        raise ValueError("inputs must hold at least one tensor, got an empty tuple.")
    for tensor in tensors:
        check_tensor("inputs", tensor, "a tensor or a tuple of tensors")
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise ValueError(
                f"inputs must hold at least one example, got a tensor of shape "
                f"{tuple(tensor.shape)}."
            )
        check_finite("inputs", tensor)
    sizes = {len(tensor) for tensor in tensors}
    if len(sizes) != 1:
        raise ValueError(
            f"inputs must be tensors of one batch size, got {sorted(sizes)} examples."
        )
    return tensors


def check_baselines(
    baselines: BaselineType, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Baselines as one tensor for each input, in its dtype and on its device."""
    if baselines is None:
        baselines = (0,) * len(inputs)
    formatted = []
    for baseline, tensor in zip(one_per_input("baselines", baselines, inputs), inputs):
        if isinstance(baseline, Tensor):
            check_tensor("baselines", baseline)
        elif not isinstance(plain(baseline), (int, float)):
            raise TypeError(
                f"baselines must be numbers, tensors or None, got "
                f"{type(baseline).__name__}{advice_on(baseline)}."
            )
        else:
            number = check_number("baselines", baseline)
            is_integer = isinstance(plain(baseline), int) and abs(number) < 2**63
            baseline = plain(baseline) if is_integer else number
        # In the dtype of the inputs: the default one would round a number for float64.
        exact = isinstance(baseline, float) and tensor.is_floating_point()
        value = torch.as_tensor(
            baseline, dtype=tensor.dtype if exact else None, device=tensor.device
        )
        if value.is_floating_point() and not tensor.is_floating_point():
            raise ValueError(
                f"baselines must be integers for inputs of {tensor.dtype}, got "
                f"{value.dtype}."
            )
        given, value = value, value.to(tensor.dtype)
        if not tensor.is_floating_point() and not torch.equal(value, given):
            raise ValueError(
                f"baselines must fit into inputs of {tensor.dtype}, got values up to "
                f"{int(given.abs().max())}."
            )
        if not broadcasts(value.shape, tensor.shape):
            raise ValueError(
                f"baselines must broadcast to inputs of shape {tuple(tensor.shape)}, "
                f"got shape {tuple(value.shape)}."
            )
        if not torch.isfinite(value).all():
            raise ValueError("baselines must be finite, got NaN or infinite values.")
        formatted.append(value)
    return tuple(formatted)


def check_target(target: TargetType, n_examples: int) -> TargetType:
    """The target in one of Captum's forms, with NumPy's numbers made plain."""
    if target is None or callable(target):
        return target
    if isinstance(target, np.ndarray):
        target = torch.as_tensor(target)
    if isinstance(target, Tensor):
        check_tensor("target", target)
        if not _holds_integers(target) or target.dim() > 1:
            raise ValueError(
                f"target must hold one integer per example, got a tensor of "
                f"{target.dtype} and shape {tuple(target.shape)}."
            )
        if target.numel() == 1:
            return _index(target.item())
        target = target.long()
    elif not isinstance(target, list):
        return _index(target)
    if len(target) != n_examples:
        raise ValueError(
            f"target must hold one index for each of the {n_examples} examples, got "
            f"{len(target)}."
        )
    if isinstance(target, Tensor) or all(map(callable, target)):
        return target
    return [_index(each) for each in target]


def _holds_integers(tensor: Tensor) -> bool:
    kinds = tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool
    return not any(kinds)


def _index(target: Any) -> Any:
    """A number, or a tuple of numbers and slices, in plain types."""
    if isinstance(target, tuple):
        if not target:
            raise ValueError("target must hold an index, got an empty tuple.")
        return tuple(t if isinstance(t, slice) else _index(t) for t in target)
    try:
        if isinstance(target, (bool, np.bool_)):
            raise TypeError
        index = operator.index(target)
        if abs(index) < 2**63:
            return index
        raise ValueError(f"target must be an index of the output, got {shown(index)}.")
    except (TypeError, RuntimeError):
        raise TypeError(
            f"target must be an int, tuple, tensor or list of them, or a function, got "
            f"{type(target).__name__}."
        ) from None


def check_probability(name: str, value: float) -> float:
    """The value as a float, checked to lie strictly between 0 and 1."""
    number = check_number(name, value)
    if not 0 < number < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {number}.")
    return number


def check_share(name: str, value: float) -> float:
    """The value as a float; refuse what is not from 0 to 1."""
    number = check_number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, got {number}.")
    return number


def check_positive(name: str, value: float) -> float:
    """The value as a float, checked to be positive and finite."""
    number = check_number(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a positive number, got {number}.")
    return number


def check_not_negative(name: str, value: float) -> float:
    """The value as a float, checked to be finite and at least 0."""
    number = check_number(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be a number of at least 0, got {number}.")
    return number


def check_number(name: str, value: Any) -> float:
    """The value as a float, which may be NaN or infinite."""
    number = plain(value)
    try:
        if isinstance(number, bool):
            raise TypeError
        return float(operator.mul(number, 1.0))
    except OverflowError:
        raise ValueError(
            f"{name} must be a number of double precision, got {shown(number)}."
        ) from None
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} must be a number, got {type(value).__name__}."
        ) from None


def check_integer(
    name: str, value: SupportsIndex, least: int, most: int = 2**63 - 1
) -> int:
    """The value as an int, checked to lie from ``least`` to ``most``."""
    number = plain(value)
    if isinstance(number, bool) or not hasattr(type(number), "__index__"):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}.")
    try:
        number = operator.index(number)
    except (TypeError, RuntimeError):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}.") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(number)}.")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {shown(number)}.")
    return number


def check_integers(
    name: str,
    value: Sequence[SupportsIndex],
    least: int,
    most: int = 2**63 - 1,
    n: int | None = None,
) -> tuple[int, ...]:
    """The values as ints from ``least`` to ``most``, n of them if n is given."""
    values = check_sequence(name, value, "integers")
    if not values or (n is not None and len(values) != n):
        expected = "at least one integer" if n is None else f"{n} integers"
        raise ValueError(f"{name} must hold {expected}, got {len(values)}.")
    return tuple(check_integer(name, each, least, most) for each in values)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Check that a name is among the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got "
            f"{shown(value)}{did_you_mean(value, choices)}."
        )


def check_unused(name: str, choice: object, values: Mapping[str, object]) -> None:
    """Check that arguments are None that a choice of another argument ignores."""
    for unused, value in values.items():
        if value is not None:
            raise ValueError(
                f"{unused} must be None if {name} is {choice!r}, got {shown(value)}."
            )


def check_perturbations_per_eval(
    value: int | Literal["auto"],
) -> int | Literal["auto"]:
    """The value as an int, or "auto"."""
    if isinstance(value, str):
        check_choice("perturbations_per_eval", value, ("auto",))
        return "auto"
    return check_integer("perturbations_per_eval", value, 1)


def check_image(inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The inputs, checked to be one tensor of images (B, C, H, W)."""
    tensors = check_inputs(inputs)
    if len(tensors) != 1 or tensors[0].dim() != 4:
        advice = "give what else the model takes as additional_forward_args"
        if len(tensors) == 1:
            advice = f"give one image (C, H, W) as {UNBATCHED}"
            if tensors[0].dim() == 5:
                advice = "for video use PNRISE, or LayerGradCamPlusPlus for its layers"
        raise ValueError(
            f"inputs must be one tensor of images (B, C, H, W), got "
            f"{', '.join(str(tuple(t.shape)) for t in tensors)}; {advice}."
        )
    if not tensors[0].is_floating_point():
        raise TypeError(
            f"inputs must be floating point to be resized, got {tensors[0].dtype}."
        )
    return tensors[0]


def check_attributions(
    maps: Tensor | tuple[Tensor, ...], inputs: Tensor, name: str = "attributions"
) -> Tensor:
    """Maps, checked to be finite, one per example, with as many axes as the input."""
    if isinstance(maps, tuple) and len(maps) == 1:
        maps = maps[0]
    maps = check_tensor(name, maps, "one tensor or a tuple of one")
    if maps.dim() != inputs.dim() or len(maps) != len(inputs) or not maps.numel():
        raise ValueError(
            f"{name} must have {inputs.dim()} axes and {len(inputs)} maps for "
            f"inputs of shape {tuple(inputs.shape)}, got shape {tuple(maps.shape)}."
        )
    check_finite(name, maps)
    return maps.detach()


def one_per_input(
    name: str, values: Any, inputs: tuple[Tensor, ...]
) -> tuple[Any, ...]:
    """The values as a tuple, checked to hold one entry per input."""
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
    """Check that scores are not NaN or infinite."""
    n_bad = int((~torch.isfinite(scores)).sum())
    if n_bad:
        raise ValueError(
            f"forward_func must return finite scores, got NaN or infinity for {n_bad} "
            f"of {scores.numel()} scores."
        )


def check_probabilities(scores: Tensor) -> None:
    """Check that scores are finite numbers in [0, 1]."""
    check_finite_scores(scores)
    # A softmax in half precision may exceed 1 by rounding.
    if not ((scores >= -1e-3) & (scores <= 1 + 1e-3)).all():
        raise ValueError(
            f"forward_func must return probabilities, got scores from "
            f"{float(scores.min()):.3g} to {float(scores.max()):.3g}."
        )
