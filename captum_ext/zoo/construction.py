"""Building of classifiers, and what follows from their last layer."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

__all__ = ["build", "first_sentence", "last_layer"]

Built = TypeVar("Built")


def build(constructor: Callable[..., Built], *arguments: Any, **options: Any) -> Built:
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


def last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer that computes the logits, with the key of its weight.

    Args:
        model (nn.Module): Classifier.

    Returns:
        *tuple[str, nn.Module]*: Key in the state dict, and the layer.
    """
    return [
        (f"{path}.weight", layer)
        for path, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ][-1]
