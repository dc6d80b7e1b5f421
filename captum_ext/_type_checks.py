"""Checks of the types of arguments: tensors, functions, modules, flags, numbers.

Every message names the argument, what was expected and what it got.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "advice_on",
    "check_callable",
    "check_finite",
    "check_flags",
    "check_instance",
    "check_module",
    "check_numbers",
    "check_sequence",
    "check_tensor",
    "plain",
    "shown",
]

_LONGEST = 60


def shown(value: object) -> str:
    """A value in an error message: its kind, or its ``repr`` if that is short."""
    if isinstance(value, Tensor) and value.is_nested:
        return "a nested tensor"
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = repr(value)
    except Exception:  # An object of the caller may raise anything.
        return type(value).__name__
    is_short = len(text) <= _LONGEST and "\n" not in text
    return text if is_short else type(value).__name__


def plain(value: Any) -> Any:
    """A scalar of NumPy or PyTorch as a Python number; other values unchanged."""
    if isinstance(value, Tensor):
        return value if value.dim() or value.is_meta else value.item()
    if isinstance(value, (np.generic, np.ndarray)):
        return value.item() if value.ndim == 0 else value
    return value


def advice_on(value: object) -> str:
    """How to convert an array or a PIL image to a tensor; empty for other values."""
    if isinstance(value, np.ndarray):
        return "; convert it by torch.from_numpy, with channels before height and width"
    if type(value).__module__.split(".")[0] == "PIL":
        return "; convert it by torchvision.transforms.functional.to_tensor"
    return ""


def check_tensor(name: str, value: object, kind: str = "a tensor") -> Tensor:
    """The argument, checked to be a dense tensor of real numbers, NaN included.

    Args:
        name (str): Name of the argument.
        value (object): The argument.
        kind (str, optional): What is expected. Default: "a tensor"

    Returns:
        *Tensor*: The argument.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be {kind}, got {type(value).__name__}{advice_on(value)}."
        )
    if value.is_nested or value.layout != torch.strided or value.is_quantized:
        layout = "nested" if value.is_nested else value.layout
        layout = "quantized" if value.is_quantized else layout
        raise TypeError(f"{name} must be dense, got a tensor that is {layout}.")
    if value.is_meta:
        raise ValueError(f"{name} must hold values, got a tensor of the meta device.")
    if value.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}.")
    return value


def check_finite(name: str, value: Tensor) -> Tensor:
    """The tensor, checked to hold no NaN or infinite values."""
    # A sum takes a fraction of the time; it may overflow, but finite it proves all.
    if torch.isfinite(value.sum()):
        return value
    n_bad = int((~torch.isfinite(value)).sum())
    if n_bad:
        raise ValueError(
            f"{name} must be finite, got {n_bad} NaN or infinite values among "
            f"{value.numel()}."
        )
    return value


def check_callable(name: str, value: object) -> None:
    """Check that an argument is callable."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {type(value).__name__}.")


def check_module(name: str, value: object) -> None:
    """Check that an argument is a module."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{name} must be an nn.Module, got {type(value).__name__}.")


def check_instance(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    """Check that an argument is an instance of a class, or of one of several."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(each.__name__ for each in kinds)
        raise TypeError(
            f"{name} must be an instance of {names}, got {type(value).__name__}."
        )


def check_flags(**flags: object) -> None:
    """Check that all arguments, given by name, are True or False."""
    for name, value in flags.items():
        if not isinstance(plain(value), bool):
            raise TypeError(f"{name} must be True or False, got {shown(value)}.")


def check_sequence(name: str, value: object, of: str) -> Sequence[Any]:
    """The argument as a list or tuple, checked to be a sequence but no string."""
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim:
        return list(value)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a sequence of {of}, got {shown(value)}.")
    return value


def check_numbers(name: str, value: object, n: int | None = None) -> Tensor:
    """The argument as finite numbers, (n,) float64 on the CPU.

    Args:
        name (str): Name of the argument.
        value (object): Sequence, tensor or array of numbers.
        n (int, optional): How many are expected. Default: None (any number)

    Returns:
        *Tensor*: The numbers.
    """
    if isinstance(value, Tensor):
        check_tensor(name, value)
    else:
        check_sequence(name, value, "numbers")
    try:
        numbers = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(
            f"{name} must hold numbers of double precision, got {shown(value)}."
        ) from None
    numbers = check_tensor(name, numbers).double()
    if numbers.dim() != 1 or (n is not None and len(numbers) != n):
        expected = "numbers" if n is None else f"{n} numbers"
        raise ValueError(
            f"{name} must hold {expected}, got a shape of {tuple(numbers.shape)}."
        )
    return check_finite(name, numbers)
