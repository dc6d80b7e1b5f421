"""Building of classifiers, and what follows from their last layer."""

from collections.abc import Callable, Sized
from typing import Any, Literal, TypeVar

import torch
from torch import nn

__all__ = ["build", "default_activation", "last_layer"]

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


def default_activation(class_names: Sized) -> Literal["softmax", "sigmoid"]:
    """Softmax; sigmoid for a single output, whose softmax would always be 1.

    Args:
        class_names (Sized): Names of the classes.

    Returns:
        *str*: "softmax" or "sigmoid".
    """
    return "sigmoid" if len(class_names) == 1 else "softmax"


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
