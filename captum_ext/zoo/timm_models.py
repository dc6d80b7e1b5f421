"""Classifiers of timm, with its preprocessing and class names."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision import transforms

from captum_ext._extras import extra
from captum_ext._state_dicts import load_state, read_state
from captum_ext.zoo.class_names import default_class_names, similar
from captum_ext.zoo.construction import build, first_sentence
from captum_ext.zoo.models import ZooModel
from captum_ext.zoo.preprocessing import Preprocessing, upright_rgb

__all__ = ["load_timm"]


def load_timm(name: str, weights: str | Path | None) -> ZooModel:
    """Load a classifier of timm.

    Args:
        name (str): Name in timm, such as ``resnet50.a1_in1k``, ``hf-hub:OWNER/NAME`` or
            ``local-dir:FOLDER``.
        weights (str or Path, optional): State-dict file (.pt, .pth or .safetensors),
            also of another number of classes. Default: None (downloaded)

    Returns:
        *ZooModel*: Classifier with the preprocessing of its data configuration.

    Raises:
        ValueError: If the model does not exist or has no classes, or the file does not
            hold its weights.
        OSError: If the weights cannot be downloaded.
        MissingExtraError: If timm is not installed.
    """
    with extra("timm"):
        import timm
        from timm.data.config import resolve_model_data_config
        from timm.data.transforms_factory import create_transform
    if ":" not in name and not timm.is_model(name.partition(".")[0]):
        raise ValueError(
            f"name must be timm:NAME of a model of timm, got {name!r}"
            f"{similar(name, timm.list_models())}."
        )
    model = _pretrained(name) if weights is None else _from_file(name, weights)
    class_names = _class_names(model, name)
    config = resolve_model_data_config(model)
    return ZooModel(
        model.eval(),
        _preprocessing(create_transform(**config, is_training=False)),
        class_names,
        tuple(config["mean"]),
        tuple(config["std"]),
    )


def _pretrained(name: str) -> Any:
    import timm

    try:
        return build(timm.create_model, name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise _not_loaded("weights", name, error) from error


def _not_loaded(what: str, name: str, error: Exception) -> OSError:
    """Error of a model that is not on this machine and cannot be downloaded."""
    advice = (
        "model elsewhere and pass its folder as timm:local-dir:FOLDER"
        if ":" in name
        else "file elsewhere and pass it as weights=FILE, or as --weights FILE on the "
        "command line"
    )
    return OSError(
        f"{what} of timm:{name} could not be loaded ({first_sentence(error)}): "
        f"download the {advice}."
    )


def _from_file(name: str, weights: str | Path) -> Any:
    """Build a model with a file's weights and their number of classes."""
    import timm

    state = read_state(weights, [])
    try:
        model: Any = build(timm.create_model, name)
    except (OSError, RuntimeError, ValueError) as error:
        raise _not_loaded("configuration", name, error) from error
    layers = model.pretrained_cfg["classifier"]
    last = layers if isinstance(layers, str) else layers[0]
    n_classes = len(state.get(f"{last}.weight", ())) or model.num_classes
    if n_classes != model.num_classes:
        model = build(timm.create_model, name, num_classes=n_classes)
    load_state(model, state, f"weights {str(weights)!r}", f"timm:{name}")
    return model


def _class_names(model: Any, name: str) -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    n_classes = model.num_classes
    if not n_classes:
        raise ValueError(
            f"name must be timm:NAME of a classifier, got {name!r}, which has no "
            f"classes."
        )
    stored = model.pretrained_cfg.get("label_names") or ()
    if len(stored) == n_classes:
        return tuple(map(str, stored))
    subset = infer_imagenet_subset(model)
    # Of 1000 classes, torchvision's names, since folders of data sets bear them.
    if subset is None or n_classes == 1000:
        return default_class_names(n_classes)
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(n_classes))


def _preprocessing(transform: transforms.Compose) -> Callable[[Image.Image], Tensor]:
    """Preprocessing, of boxes too if the geometry is resizing and a center crop."""
    match transform.transforms:
        case [transforms.Resize(size=size), transforms.CenterCrop(size=crop), *_]:
            return Preprocessing(transform, size, tuple(crop))
    return partial(_of_rgb, transform)


def _of_rgb(transform: Callable[[Image.Image], Tensor], image: Image.Image) -> Tensor:
    return transform(upright_rgb(image))
