"""Metrics of the user, by FILE.py:NAME or MODULE:NAME."""

import inspect
from functools import cache
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor

from captum_ext.evaluation.named_metrics import Metric
from captum_ext.evaluation.quantus_metrics import quantus_metric
from captum_ext.zoo.python_function import find_function

__all__ = ["own_metric"]


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
