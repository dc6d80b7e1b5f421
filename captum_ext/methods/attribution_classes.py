"""Methods from attribution classes: Captum's, and the user's by FILE.py:CLASS."""

import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import captum.attr
import numpy as np
import torch
from captum.attr import Attribution, PerturbationAttribution, Saliency

from captum_ext.masks import superpixels
from captum_ext.methods.argument_types import names_argument
from captum_ext.methods.named_methods import Method, occlusion_windows
from captum_ext.subject import Part, Subject
from captum_ext.zoo.python_function import find_function

__all__ = [
    "RefusedValueError",
    "captum_methods",
    "class_method",
    "errors_named",
    "own_method",
    "seeded_globally",
]

# Of one image, nothing can be permuted; exact Shapley values take as many passes as
# there are orders of the features.
_UNUSABLE = {"FeaturePermutation", "LayerFeaturePermutation", "ShapleyValues"}


@cache
def captum_methods() -> dict[str, Method]:
    """Captum's attributions that explain a class of one image, by class name.

    Those of neurons, of language models and of several features at once are left out,
    and those that need more than a model and a layer.

    Returns:
        *dict[str, Method]*: Methods such as ``DeepLift`` and ``LayerConductance``.

    Examples::

        >>> captum_methods()["GuidedGradCam"].built_from
        ('model', 'layer')
    """
    found = {}
    for name in captum.attr.__all__:
        value = getattr(captum.attr, name)
        if inspect.isclass(value) and _explains_images(value) and name not in _UNUSABLE:
            found[name] = class_method(value, name, f"Captum's {name}")
    return found


def _explains_images(value: type) -> bool:
    """Whether a class explains a target by a model, or a model and a layer."""
    attribute = getattr(value, "attribute", None)
    if not issubclass(value, Attribution) or attribute is None:
        return False
    names = {*inspect.signature(inspect.unwrap(attribute)).parameters}
    required = {
        n
        for n, p in inspect.signature(value).parameters.items()
        if p.default is p.empty
    }
    return (
        {"inputs", "target"} <= names
        and "neuron_selector" not in names
        and required <= {"forward_func", "model", "layer"}
    )


def class_method(attribution: type[Attribution], title: str, summary: str) -> Method:
    """A method from an attribution class in Captum's form.

    A class whose constructor has a ``layer`` is built from the model and the layer. A
    ``PerturbationAttribution`` is built from the probabilities, and any other class
    from the model, whose logits are then explained. Features are 50 superpixels if the
    class takes a ``feature_mask``, windows are a seventh of the image, and baselines
    that must be given are a gray image and one of the image's mean color.

    Args:
        attribution (type): Class with a method ``attribute(inputs, target=...)``.
        title (str): Title of its maps.
        summary (str): Description in a few words.

    Returns:
        *Method*: Method with signed maps, except those of Captum's ``Saliency``.
    """
    built_from: tuple[Part, ...] = ("model",)
    if "layer" in inspect.signature(attribution).parameters:
        built_from = ("model", "layer")
    elif issubclass(attribution, PerturbationAttribution):
        built_from = ("probabilities",)
    attribute = inspect.unwrap(attribution.attribute)
    takes = inspect.signature(attribute).parameters

    def arguments(subject: Subject) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "sliding_window_shapes" in takes:
            found = occlusion_windows(subject)
        if "feature_mask" in takes:
            found["feature_mask"] = superpixels(subject.inputs, 50)
        baselines = takes.get("baselines")
        if baselines is not None and baselines.default is baselines.empty:
            color = subject.inputs.mean((2, 3), keepdim=True).expand_as(subject.inputs)
            found["baselines"] = torch.cat([torch.zeros_like(color), color])
        return found

    return Method(
        title,
        summary,
        attribution,
        arguments,
        built_from,
        signed=attribution is not Saliency,
        reference=True,
    )


@cache
def own_method(use: str) -> Method:
    """A method from a class of the user.

    It is built as by :func:`class_method`.

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


class RefusedValueError(ValueError):
    """A method refuses the value of an argument that was given.

    Args:
        message (str): What happened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


@contextmanager
def errors_named(
    name: str, any_error: bool, given: Collection[str] = ()
) -> Iterator[None]:
    """Raise the errors by which a method refuses arguments as one kind, with its name.

    Args:
        name (str): Name of the method, for the message.
        any_error (bool): Whether all errors are meant: Captum's methods refuse
            arguments by any error, ours by ``TypeError`` and ``ValueError``.
        given (collection of str, optional): Names of the arguments that were given.
            Default: none

    Raises:
        RefusedValueError: If the method refuses the value of one that was given.
        ValueError: If it refuses anything else.
    """
    refusals = (Exception,) if any_error else (TypeError, ValueError)
    try:
        yield
    except OSError:
        raise
    except refusals as failure:
        refused = names_argument(failure, given)
        kind = RefusedValueError if refused else ValueError
        raise kind(f"{name}: {failure}") from failure


@contextmanager
def seeded_globally(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators, which methods of others draw from, and restore them.

    A map then depends on its image only, and not on what was computed before it.

    Args:
        seed (int): Seed.
        device (torch.device): Device of the inputs.
    """
    before = np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)
