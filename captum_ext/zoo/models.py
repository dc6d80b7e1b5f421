"""Classifiers by name, each with its preprocessing and its class names."""

import difflib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from captum_ext._validation import check_channels_first
from captum_ext.zoo.preprocessing import Preprocessing
from captum_ext.zoo.python_file import function_in_file
from captum_ext.zoo.resnet20 import ResNet20
from captum_ext.zoo.signs import SIGN_CLASSES
from captum_ext.zoo.signs_classifier import (
    SIGNS_MEAN,
    SIGNS_STD,
    WEIGHTS_FILE,
    SignsClassifier,
)
from captum_ext.zoo.state_dicts import fill, read_state

__all__ = [
    "ZooModel",
    "find_class",
    "load",
]


class ZooModel(NamedTuple):
    """A classifier and what is needed to feed it and to read it.

    Attributes:
        model (nn.Module): The classifier in eval mode: (B, 3, H, W) to logits.
        preprocess (Callable): A PIL image of any mode to the normalized (3, H, W)
            tensor the model expects, resized and cropped around its center; see
            :class:`Preprocessing`, which does the same to boxes.
        class_names (tuple of str): Name of each logit.
        mean (tuple of float): Mean of the normalization, RGB in [0, 1].
        std (tuple of float): Standard deviation of the normalization, RGB.
    """

    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalize(self, image: Tensor) -> Tensor:
        """An image as the model takes it.

        Args:
            image (Tensor): RGB in [0, 1], channels first: an image (3, H, W), a
                video (3, T, H, W), or colors (3,).

        Returns:
            Tensor: Less ``mean`` and divided by ``std``, in the same shape.

        Raises:
            ValueError: If it is not floating point, or its first axis not the channels.

        Examples::

            >>> load("signs").normalize(torch.tensor([0.5, 0.75, 1.0]))
            tensor([0., 1., 2.])
        """
        mean, std = self._beside("image", image)
        return (image - mean) / std

    def denormalize(self, inputs: Tensor) -> Tensor:
        """What :meth:`normalize` was given, to look at.

        Args:
            inputs (Tensor): Normalized, channels first: (3, ...).

        Returns:
            Tensor: RGB in [0, 1], in the same shape; what lies outside is clamped.

        Raises:
            ValueError: If it is not floating point, or its first axis not the channels.
        """
        mean, std = self._beside("inputs", inputs)
        return (inputs * std + mean).clamp(0, 1)

    def _beside(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, to be combined with channels first."""
        check_channels_first(name, x, len(self.mean))
        shape = (-1, *(1,) * (x.dim() - 1))
        return x.new_tensor(self.mean).view(shape), x.new_tensor(self.std).view(shape)


def load(name: str, weights: str | Path | None = None) -> ZooModel:
    r"""Load a classifier: of the package, of torchvision, or of one's own.

    Args:
        name (str): ``"signs"``, which is part of the package; any classification model
            of torchvision, such as ``"resnet50"``; ``"resnet20"``, for images of
            32 x 32 pixels such as CIFAR-10's, whose weights come from a file; or
            ``"FILE.py:FUNCTION"``, a function of a Python file that is called with
            ``weights`` and returns a :class:`ZooModel`.
        weights (str or Path, optional): What torchvision calls the weights, such as
            ``"IMAGENET1K_V1"``, to download them; or a state-dict file, also one with
            the key ``"state_dict"``, or of a model fine-tuned to other classes.
            A function of one's own makes of it what it likes.
            Default: those of the package for ``"signs"``, torchvision's ``"DEFAULT"``
            for its models, None for a function of one's own.

    Returns:
        ZooModel: ``(model, preprocess, class_names, mean, std)``. The preprocessing of
        a file's weights is that of torchvision's default weights; so are its class
        names if there are as many.

    Raises:
        ValueError: If there is no such model, or no such file or weights, if the
            file holds no state dict that fits the model, or if a function of one's own
            returns something else.
        OSError: If the weights cannot be downloaded.

    Examples::

        >>> from captum_ext.zoo import load, sign_scene
        >>> signs, scene = load("signs"), sign_scene(0)
        >>> logits = signs.model(signs.normalize(scene.image)[None])
        >>> signs.class_names[logits.argmax()] == signs.class_names[scene.label]
        True
    """
    if name == "signs":
        return _load_signs(WEIGHTS_FILE if weights is None else weights)
    if name == "resnet20":
        return _load_resnet20(weights)
    if ".py:" in name:
        return _load_own(name, weights)
    known = list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(
            f"name must be 'signs', 'resnet20', a classification model of torchvision "
            f"or FILE.py:FUNCTION, got {name!r}"
            f"{_similar(name, known)}."
        )
    choices = get_model_weights(name)
    weights = "DEFAULT" if weights is None else weights
    if weights in choices.__members__:
        entry = choices[str(weights)]
        model = _download(name, entry)
    else:
        entry = choices["DEFAULT"]
        model = _from_file(name, weights, list(choices.__members__))
    class_names = tuple(entry.meta["categories"])
    n_classes = _last_layer(model)[1].weight.shape[0]
    if n_classes != len(class_names):
        class_names = tuple(f"class {i}" for i in range(n_classes))
    transform = entry.transforms()
    preprocess = Preprocessing(
        transform, transform.resize_size[0], transform.crop_size[0]
    )
    mean, std = tuple(transform.mean), tuple(transform.std)
    return ZooModel(model.eval(), preprocess, class_names, mean, std)


def find_class(class_names: Sequence[str], query: int | str) -> int:
    r"""Index of the class that is meant.

    Args:
        class_names (Sequence of str): Name of each class.
        query (int or str): An index, as a number or as text; a name; or a part of just
            one name. Upper and lower case count only where two names differ in them.

    Returns:
        int: Index into ``class_names``.

    Raises:
        ValueError: If no class is meant, or more than one.

    Examples::

        >>> from captum_ext.zoo import find_class, SIGN_CLASSES
        >>> find_class(SIGN_CLASSES, "blue circle, arrow")
        3
        >>> find_class(SIGN_CLASSES, "octagon")
        11
    """
    text = str(query)
    folded = [name.lower() for name in class_names]
    for hits in (
        [i for i, name in enumerate(class_names) if name == text],
        [i for i, name in enumerate(folded) if name == text.lower()],
        [int(text)] if text.isdecimal() and int(text) < len(class_names) else [],
        [i for i, name in enumerate(folded) if text.lower() in name],
    ):
        if len(hits) == 1:
            return hits[0]
        if hits:
            several = ", ".join(f"{i} {class_names[i]!r}" for i in hits[:5])
            raise ValueError(
                f"class must be one of {len(hits)} classes such as {several}, got "
                f"{text!r}, which all of them contain."
            )
    raise ValueError(
        f"class must be a name or an index from 0 to {len(class_names) - 1}, got "
        f"{text!r}{_similar(text, class_names)}."
    )


def _load_signs(weights: str | Path) -> ZooModel:
    model = _build(SignsClassifier)
    fill(model, read_state(weights, []), f"weights {str(weights)!r}", "signs")
    preprocess = Preprocessing.square(96, SIGNS_MEAN, SIGNS_STD)
    return ZooModel(model.eval(), preprocess, SIGN_CLASSES, SIGNS_MEAN, SIGNS_STD)


def _load_resnet20(weights: str | Path | None) -> ZooModel:
    if weights is None:
        raise ValueError("weights must be a state-dict file for 'resnet20', got none.")
    state = read_state(weights, [])
    last = state.get("linear.weight")
    n_classes = 10 if last is None else len(last)
    model = _build(ResNet20, num_classes=n_classes)
    fill(model, state, f"weights {str(weights)!r}", "resnet20")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocess = Preprocessing.square(32, mean, std)
    class_names = tuple(f"class {i}" for i in range(n_classes))
    return ZooModel(model.eval(), preprocess, class_names, mean, std)


def _load_own(name: str, weights: str | Path | None) -> ZooModel:
    function = function_in_file(name)
    try:
        inspect.signature(function).bind(weights)
    except TypeError as error:
        raise ValueError(
            f"name must be a function of one argument, the weights, got {name!r} "
            f"({error})."
        ) from error
    entry = function(weights)
    if not isinstance(entry, ZooModel):
        raise ValueError(
            f"name must be a function that returns a ZooModel, got {name!r}, which "
            f"returns {type(entry).__name__}."
        )
    return entry._replace(model=entry.model.eval())


def _download(name: str, entry: WeightsEnum) -> nn.Module:
    try:
        return _build(get_model, name=name, weights=entry)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"weights {entry.name!r} of {name} could not be downloaded from "
            f"{entry.url} ({error}): download the file elsewhere and pass it as "
            f"weights=FILE, --weights FILE on the command line."
        ) from error


def _from_file(name: str, weights: str | Path, choices: list[str]) -> nn.Module:
    """The model with a file's weights and, like these, with its number of classes."""
    state = read_state(weights, choices)
    options: dict[str, Any] = {"name": name, "weights": None}
    if name in ("googlenet", "inception_v3"):
        # Their auxiliary classifiers are for training: many files come without.
        options["aux_logits"] = any(key.lower().startswith("aux") for key in state)
        options["init_weights"] = False
    model = _build(get_model, **options)
    key, layer = _last_layer(model)
    if key in state and state[key].shape[:1] != layer.weight.shape[:1]:
        model = _build(get_model, **options, num_classes=len(state[key]))
    fill(model, state, f"weights {str(weights)!r}", name)
    return model


def _build(constructor: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """Construct a model; its initial weights use up no global random numbers."""
    with torch.random.fork_rng(devices=[]):
        return constructor(**options)


def _last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer that gives the logits, and the key of its weight."""
    return [
        (f"{path}.weight", layer)
        for path, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ][-1]


def _similar(text: str, names: Sequence[str]) -> str:
    """A hint at the names that are much like a text, or at what names there are."""
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(text).lower(), folded, n=3, cutoff=0.5)
    if not close:
        return f", which is none of {', '.join(map(repr, names[:3]))} ..."
    return f", perhaps {' or '.join(repr(folded[key]) for key in close)}"
