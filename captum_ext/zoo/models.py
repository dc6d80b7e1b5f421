"""Classifiers by name, each with its preprocessing and its class names."""

import difflib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from captum_ext._activations import Activation, probabilities
from captum_ext._outputs import output_tensor
from captum_ext._state_dicts import load_state, read_state
from captum_ext.zoo.preprocessing import Preprocessing
from captum_ext.zoo.python_function import find_function
from captum_ext.zoo.resnet20 import ResNet20
from captum_ext.zoo.signs import SIGN_CLASSES
from captum_ext.zoo.signs_classifier import (
    SIGNS_MEAN,
    SIGNS_STD,
    WEIGHTS_FILE,
    SignsClassifier,
)

if TYPE_CHECKING:
    from captum_ext.masking import MaskingNetwork

__all__ = ["ZooModel", "find_class", "load"]


class ZooModel(NamedTuple):
    """A classifier with its preprocessing and class names.

    Attributes:
        model (nn.Module): Classifier in eval mode, from (B, 3, H, W) to logits.
        preprocess (Callable): Function from a PIL image of any mode to the normalized
            tensor (3, H, W) that the model expects. Metrics that compare maps with
            boxes need a :class:`BoxPreprocessing`, such as :class:`Preprocessing`.
        class_names (tuple of str): Class names, one per logit.
        mean (tuple of float): Mean of the normalization, RGB in [0, 1].
        std (tuple of float): Standard deviation of the normalization, RGB in [0, 1].
        masking_network (MaskingNetwork, optional): Masking network trained for the
            model; see :meth:`with_masking_network`. Default: None
        activation (str): What turns logits into probabilities: "softmax" for classes of
            which one is present, "sigmoid" for independent ones (multi-label),
            "identity" for outputs that are probabilities. A single output, of a binary
            classifier, has a sigmoid. Default: "softmax"
    """

    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    masking_network: "MaskingNetwork | None" = None
    activation: Literal["softmax", "sigmoid", "identity"] = "softmax"

    @property
    def applied_activation(self) -> Activation:
        """Activation that gives probabilities: the sigmoid of a single output.

        The softmax of one number is always 1.
        """
        alone = len(self.class_names) == 1 and self.activation == "softmax"
        return "sigmoid" if alone else self.activation

    def logits(self, output: object) -> Tensor:
        """Logits of the classes.

        Args:
            output (Tensor): Output of ``model``: logits (B, classes), an object with
                them, or (B,) for one class.

        Returns:
            Tensor: (B, classes).

        Raises:
            ValueError: If there is not one logit per class name.

        Examples::

            >>> load("signs").logits({"logits": torch.zeros(1, 16)}).shape
            torch.Size([1, 16])
        """
        try:
            logits = output_tensor(output)
        except TypeError as error:
            raise ValueError(str(error)) from error
        n_classes = len(self.class_names)
        if logits.dim() == 1 and n_classes == 1:
            logits = logits[:, None]
        if logits.shape[1:] != (n_classes,):
            raise ValueError(
                f"model must return logits (B, {n_classes}), one for each of its class "
                f"names, got shape {tuple(logits.shape)}."
            )
        return logits

    def probabilities(self, output: object) -> Tensor:
        """Probabilities of the classes, by :attr:`applied_activation`.

        Args:
            output (Tensor): Output of ``model``, as for :meth:`logits`.

        Returns:
            Tensor: (B, classes).

        Raises:
            ValueError: If there is not one logit per class name.

        Examples::

            >>> load("signs").probabilities(torch.zeros(1, 16))[0, 0]
            tensor(0.0625)
        """
        return probabilities(self.logits(output), self.applied_activation)

    def with_masking_network(self, network: "MaskingNetwork") -> "ZooModel":
        """Return the classifier together with a masking network trained for it.

        Args:
            network (MaskingNetwork): Masking network on the classifier's device.

        Returns:
            ZooModel: Copy of this tuple with ``masking_network``.

        Raises:
            ValueError: If the network was trained for another number of classes.

        Examples::

            >>> from captum_ext.zoo import load, load_signs_masks
            >>> signs = load("signs").with_masking_network(load_signs_masks())
            >>> signs.masking_network.n_classes
            16
        """
        if network.n_classes != len(self.class_names):
            raise ValueError(
                f"masking_network must have as many classes as the model, "
                f"{len(self.class_names)}, got {network.n_classes}."
            )
        return self._replace(masking_network=network)

    def normalize(self, image: Tensor) -> Tensor:
        """Normalize an image for the model.

        Args:
            image (Tensor): RGB in [0, 1], channels first: an image (3, H, W), a
                video (3, T, H, W), or a color (3,).

        Returns:
            Tensor: ``(image - mean) / std``, in the same shape.

        Raises:
            ValueError: If ``image`` is not floating point or its first axis does not
                hold the channels.

        Examples::

            >>> load("signs").normalize(torch.tensor([0.5, 0.75, 1.0]))
            tensor([0., 1., 2.])
        """
        mean, std = self._channel_statistics("image", image)
        return (image - mean) / std

    def denormalize(self, inputs: Tensor) -> Tensor:
        """Undo :meth:`normalize`, for display.

        Args:
            inputs (Tensor): Normalized image, channels first: (3, ...).

        Returns:
            Tensor: RGB clamped to [0, 1], in the same shape.

        Raises:
            ValueError: If ``inputs`` is not floating point or its first axis does not
                hold the channels.
        """
        mean, std = self._channel_statistics("inputs", inputs)
        return (inputs * std + mean).clamp(0, 1)

    def _channel_statistics(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, broadcastable to channels-first ``x``."""
        if not x.is_floating_point() or x.shape[:1] != (len(self.mean),):
            raise ValueError(
                f"{name} must be floating point with its {len(self.mean)} channels "
                f"first, got {x.dtype} of shape {tuple(x.shape)}."
            )
        shape = (-1, *(1,) * (x.dim() - 1))
        return x.new_tensor(self.mean).view(shape), x.new_tensor(self.std).view(shape)


def load(name: str, weights: str | Path | None = None) -> ZooModel:
    r"""Load a classifier: a built-in one, one of torchvision, or your own.

    Args:
        name (str): ``"signs"``, which comes with the package; any classification model
            of torchvision, such as ``"resnet50"``; ``"resnet20"``, for images of
            32 x 32 pixels such as CIFAR-10's, whose weights come from a file; or your
            own function, which is called with ``weights`` and returns a
            :class:`ZooModel`: ``"FILE.py:FUNCTION"``, or ``"MODULE:FUNCTION"`` of an
            importable module.
        weights (str or Path, optional): Name of torchvision's weights, such as
            ``"IMAGENET1K_V1"``, to download; or a state-dict file, optionally with
            the state dict under the key ``"state_dict"`` or of a model fine-tuned to
            other classes. Your own function may accept anything else.
            Default: None (the package's weights for ``"signs"``, torchvision's
            ``"DEFAULT"`` for its models)

    Returns:
        ZooModel: Classifier in eval mode. Weights from a file use the preprocessing of
        torchvision's default weights, and their class names if the number of classes
        is the same.

    Raises:
        ValueError: If the model, the file or the weights do not exist, if the file
            does not hold a state dict that fits the model, or if your own function
            does not return a :class:`ZooModel`.
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
    if ":" in name:
        return _load_own(name, weights)
    return _load_torchvision(name, "DEFAULT" if weights is None else weights)


def _load_torchvision(name: str, weights: str | Path) -> ZooModel:
    known = list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(
            f"name must be 'signs', 'resnet20', a classification model of torchvision "
            f"or FILE.py:FUNCTION, got {name!r}{_similar(name, known)}."
        )
    choices = get_model_weights(name)
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
    r"""Find a class by its index, its name or a part of its name.

    Args:
        class_names (Sequence of str): Name of each class.
        query (int or str): Index, as a number or as text; name; or part of exactly one
            name. Case matters only where two names differ in nothing else.

    Returns:
        int: Index into ``class_names``.

    Raises:
        ValueError: If the query matches no class, or more than one.

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
                f"class must match a single name, got {text!r}, which matches "
                f"{len(hits)} classes such as {several}."
            )
    raise ValueError(
        f"class must be a name or an index from 0 to {len(class_names) - 1}, got "
        f"{text!r}{_similar(text, class_names)}."
    )


def _load_signs(weights: str | Path) -> ZooModel:
    model = _build(SignsClassifier)
    load_state(model, read_state(weights, []), f"weights {str(weights)!r}", "signs")
    preprocess = Preprocessing.square(96, SIGNS_MEAN, SIGNS_STD)
    return ZooModel(model.eval(), preprocess, SIGN_CLASSES, SIGNS_MEAN, SIGNS_STD)


def _load_resnet20(weights: str | Path | None) -> ZooModel:
    if weights is None:
        raise ValueError("weights must be a state-dict file for 'resnet20', got none.")
    state = read_state(weights, [])
    last = state.get("linear.weight")
    n_classes = 10 if last is None else len(last)
    model = _build(ResNet20, num_classes=n_classes)
    load_state(model, state, f"weights {str(weights)!r}", "resnet20")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocess = Preprocessing.square(32, mean, std)
    class_names = tuple(f"class {i}" for i in range(n_classes))
    return ZooModel(model.eval(), preprocess, class_names, mean, std)


def _load_own(name: str, weights: str | Path | None) -> ZooModel:
    function = find_function(name)
    try:
        inspect.signature(function).bind(weights)
    except TypeError as error:
        raise ValueError(
            f"name must be a function of one argument, weights, got {name!r} ({error})."
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
            f"weights=FILE, or as --weights FILE on the command line."
        ) from error


def _from_file(name: str, weights: str | Path, choices: list[str]) -> nn.Module:
    """Build a model with a file's weights and their number of classes."""
    state = read_state(weights, choices)
    options: dict[str, Any] = {"name": name, "weights": None}
    if name in ("googlenet", "inception_v3"):
        # Auxiliary classifiers are for training: many files do not contain them.
        options["aux_logits"] = any(key.lower().startswith("aux") for key in state)
        options["init_weights"] = False
    model = _build(get_model, **options)
    key, layer = _last_layer(model)
    if key in state and state[key].shape[:1] != layer.weight.shape[:1]:
        model = _build(get_model, **options, num_classes=len(state[key]))
    load_state(model, state, f"weights {str(weights)!r}", name)
    return model


def _build(constructor: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """Construct a model without advancing the global random number generator."""
    with torch.random.fork_rng(devices=[]):
        return constructor(**options)


def _last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer that computes the logits, with the key of its weight."""
    return [
        (f"{path}.weight", layer)
        for path, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ][-1]


def _similar(text: str, names: Sequence[str]) -> str:
    """A hint at similar names, or at some of the names if none is similar."""
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(text).lower(), folded, n=3, cutoff=0.5)
    if not close:
        return f", which is not among {', '.join(map(repr, names[:3]))}, ..."
    return f", perhaps {' or '.join(repr(folded[key]) for key in close)}"
