"""Construction of models, and messages of other libraries' errors."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["build", "first_sentence"]

_Model = TypeVar("_Model")


def build(
    constructor: Callable[..., _Model], *arguments: Any, **options: Any
) -> _Model:
    """Construct a model without advancing the global random number generator.

    Args:
        constructor (Callable): Function that returns a model.
        *arguments: Its arguments.
        **options: Its arguments by name.

    Returns:
        *Any*: What the function returns.

    Examples::

        >>> build(nn.Linear, 3, 2)
        Linear(in_features=3, out_features=2, bias=True)
    """
    with torch.random.fork_rng(devices=[]):
        return constructor(*arguments, **options)


def first_sentence(error: Exception) -> str:
    """First sentence of the message of another library's error, in one line."""
    return re.split(r"\.\s", " ".join(str(error).split()))[0].rstrip(".")
