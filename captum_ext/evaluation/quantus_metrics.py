"""Metrics of the package Quantus, by quantus:CLASS."""

import inspect
from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, Signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_ext._extras import extra
from captum_ext.evaluation.named_metrics import Metric
from captum_ext.metrics.boxes import given_regions

__all__ = ["quantus_metric"]

# They explain again: other inputs, other weights, or mosaics of several images.
_EXPLAINING = ("Robustness", "Randomisation")
_ALSO_EXPLAINING = ("Focus", "InputInvariance")
# Arguments of the constructor that are set here.
_SETTINGS: dict[str, Any] = {
    "disable_warnings": True,
    "display_progressbar": False,
    "return_aggregate": False,
    "return_auc_per_sample": True,
}


class _Model(nn.Module):
    """Module that returns probabilities, which Quantus asks for."""

    def __init__(self, forward_func: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.forward_func = forward_func

    def forward(self, inputs: Tensor) -> Tensor:
        return self.forward_func(inputs)


def quantus_metric(name: str) -> Metric:
    """A metric of Quantus that evaluates one map of one image.

    It is called with the probabilities, the map's mean over channels and, if it
    compares maps with an annotation, with the boxes of the target. Options are the
    arguments of its constructor.

    Args:
        name (str): Name of a class of Quantus, such as "RelevanceMassAccuracy".

    Returns:
        *Metric*: Metric with the direction that Quantus gives it.

    Raises:
        MissingExtraError: If Quantus is not installed.
        ValueError: If there is no such metric, or it explains other inputs or other
            weights itself; of a call, if Quantus fails or returns a curve.
    """
    with extra("quantus"):
        quantus: Any = import_module("quantus")
    classes: dict[str, Any] = dict(inspect.getmembers(quantus, inspect.isclass))
    found = classes.get(name)
    if found is None or not issubclass(found, quantus.Metric):
        raise ValueError(f"metrics must be classes of quantus, got 'quantus:{name}'.")
    category = found.evaluation_category.value
    if category in _EXPLAINING or name in _ALSO_EXPLAINING:
        raise ValueError(
            f"metrics must evaluate a given map of one image, got 'quantus:{name}', "
            f"which explains other inputs or weights itself."
        )
    taken = inspect.signature(found).parameters
    settings = {key: value for key, value in _SETTINGS.items() if key in taken}

    def function(
        forward_func: Any, inputs: Tensor, attributions: Tensor, **options: Any
    ) -> Tensor:
        target, boxes = options.pop("target"), options.pop("boxes", None)
        metric = found(**{**options, **settings})
        return _value(metric, forward_func, inputs, attributions, target, boxes)

    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            # More types are accepted than declared, as numbers for perturb_baseline.
            p.replace(kind=Parameter.KEYWORD_ONLY, annotation=p.empty)
            for p in taken.values()
            if p.kind is not p.VAR_KEYWORD and p.name not in _SETTINGS
        ]
    )
    return Metric(
        name,
        f"Quantus, {category.lower()}",
        function,
        higher_is_better=found.score_direction.value == "higher",
        needs_boxes=category == "Localisation",
    )


def _value(
    metric: Any,
    forward_func: Callable[[Tensor], Tensor],
    inputs: Tensor,
    attributions: Tensor,
    target: int,
    boxes: list[Tensor] | None,
) -> Tensor:
    """Value of a metric of Quantus for the map of one image."""
    name, masks = type(metric).__name__, None
    if boxes is not None:
        shape = (len(inputs), *inputs.shape[2:])
        masks = given_regions(boxes, None, shape)[:, None].numpy()
    try:
        values = metric(
            model=_Model(forward_func).eval(),
            x_batch=inputs.cpu().numpy(),
            y_batch=np.array([target]),
            a_batch=attributions.mean(1, keepdim=True).cpu().numpy(),
            s_batch=masks,
            channel_first=True,
            softmax=False,
            device=str(inputs.device),
        )
    # Several of its metrics fail with some versions of NumPy, or some options.
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"metrics must work with the installed versions, got "
            f"{type(error).__name__} in 'quantus:{name}' ({reason})."
        ) from error
    found = torch.as_tensor(np.array(values, dtype=np.float64)).flatten()
    if len(found) != 1:
        raise ValueError(
            f"metrics must return one number per map, got {len(found)} of "
            f"'quantus:{name}'."
        )
    return found[0]
