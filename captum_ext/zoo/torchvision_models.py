"""Classifiers of torchvision, with weights by name or from a file."""

from pathlib import Path
from typing import Any

import torchvision
from torch import nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from captum_ext._state_dicts import load_state, read_state
from captum_ext.zoo.class_names import default_class_names, similar
from captum_ext.zoo.construction import build
from captum_ext.zoo.models import ZooModel
from captum_ext.zoo.preprocessing import Preprocessing

__all__ = ["load_torchvision"]


def load_torchvision(name: str, weights: str | Path | None) -> ZooModel:
    """Load a classification model of torchvision.

    Args:
        name (str): Name of the model.
        weights (str or Path, optional): Name of torchvision's weights, or a state-dict
            file, also of another number of classes. Default: None ("DEFAULT")

    Returns:
        *ZooModel*: Classifier with the preprocessing of the weights, or of the default
        weights if they are from a file.

    Raises:
        ValueError: If the model or the weights do not exist, or do not fit.
        OSError: If the weights cannot be downloaded.
    """
    known = list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(
            f"name must be 'signs', 'resnet20', a classification model of torchvision, "
            f"timm:NAME, hf:NAME, onnx:FILE or FILE.py:FUNCTION, got {name!r}"
            f"{similar(name, ['signs', 'resnet20', *known])}."
        )
    weights = "DEFAULT" if weights is None else weights
    choices = get_model_weights(name)
    if weights in choices.__members__:
        entry = choices[str(weights)]
        model = _download(name, entry)
    else:
        entry = choices["DEFAULT"]
        model = _from_file(name, weights, list(choices.__members__))
    class_names = default_class_names(len(_last_layer(model)[1].weight))
    transform = entry.transforms()
    preprocess = Preprocessing(
        transform, transform.resize_size[0], transform.crop_size[0]
    )
    mean, std = tuple(transform.mean), tuple(transform.std)
    return ZooModel(model.eval(), preprocess, class_names, mean, std)


def _download(name: str, entry: WeightsEnum) -> nn.Module:
    try:
        return build(get_model, name=name, weights=entry)
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
    model = build(get_model, **options)
    key, layer = _last_layer(model)
    if key in state and state[key].shape[:1] != layer.weight.shape[:1]:
        model = build(get_model, **options, num_classes=len(state[key]))
    load_state(model, state, f"weights {str(weights)!r}", name)
    return model


def _last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer that computes the logits, after the key of its weight."""
    return [
        (f"{path}.weight", layer)
        for path, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ][-1]
