"""Methods and metrics of the user, by FILE.py:NAME or MODULE:NAME."""

import inspect
from functools import cache
from inspect import Parameter, Signature
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ext.evaluation.attribution_classes import class_method
from captum_ext.evaluation.named_metrics import Metric
from captum_ext.evaluation.quantus_metrics import quantus_metric
from captum_ext.methods import Method
from captum_ext.zoo.python_function import find_function

__all__ = ["own_method", "own_metric"]


@cache
def own_method(use: str) -> Method:
    """A method from a class of the user.

    It is built as by :func:`~captum_ext.evaluation.attribution_classes.class_method`.

    Args:
        use (str): ``FILE.py:CLASS`` or ``MODULE:CLASS``.

    Returns:
        *Method*: Method with signed maps.

    Raises:
        ValueError: If there is no such class, or it has no method ``attribute``.
    """
    found = find_function(use)
    if not isinstance(found, type) or not issubclass(found, Attribution):
        raise ValueError(
            f"methods of your own must be classes derived from "
            f"captum.attr.Attribution, got {use!r}."
        )
    method = class_method(found, use.rpartition(":")[2], f"from {use}")
    return method._replace(reference=False)


@cache
def own_metric(use: str) -> Metric:
    """A metric from a function or a class of the user.

    A function is called as ``function(forward_func, inputs, attributions, target=...,
    ...)``, as those of :mod:`captum_ext.metrics`, and returns one number. An instance
    of a class is called in the same way; the arguments are those of its constructor.
    ``forward_func`` returns probabilities. A function with an argument ``boxes`` gets a
    list with the boxes (N, 4) of the target. The argument ``better``, "higher" or
    "lower", is not passed on.

    Args:
        use (str): ``FILE.py:NAME`` or ``MODULE:NAME``; ``quantus:CLASS`` is
            :func:`~captum_ext.evaluation.quantus_metrics.quantus_metric`.

    Returns:
        *Metric*: Metric.

    Raises:
        ValueError: If there is no such function or class.
    """
    if use.startswith("quantus:"):
        return quantus_metric(use.removeprefix("quantus:"))
    found = find_function(use)
    parameters = [*inspect.signature(found).parameters.values()]
    taken = parameters if isinstance(found, type) else parameters[3:]
    named = {
        p.name: p.replace(kind=Parameter.KEYWORD_ONLY)
        for p in taken
        if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        and p.name not in ("target", "better")
    }

    def function(
        forward_func: Any, inputs: Tensor, attributions: Tensor, **options: Any
    ) -> Tensor:
        target = options.pop("target")
        options.pop("better", None)
        call = found
        if isinstance(found, type):
            call, options = found(**options), {}
        result = call(forward_func, inputs, attributions, target=target, **options)
        return torch.as_tensor(result).detach()

    better = Parameter("better", Parameter.KEYWORD_ONLY)
    signature = Signature([*named.values(), better])
    function.__signature__ = signature  # type: ignore[attr-defined]
    title = use.rpartition(":")[2]
    return Metric(title, f"from {use}", function, True, needs_boxes="boxes" in named)
