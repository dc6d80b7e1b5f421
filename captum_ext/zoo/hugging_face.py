"""Image classifiers of Hugging Face, with their preprocessing and labels."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from captum_ext._activations import Activation
from captum_ext._extras import extra
from captum_ext._state_dicts import load_state, read_state
from captum_ext.zoo.construction import build, first_sentence
from captum_ext.zoo.models import ZooModel
from captum_ext.zoo.preprocessing import Preprocessing, upright_rgb

__all__ = ["load_hugging_face"]

_ACTIVATIONS: dict[str | None, Activation] = {
    "multi_label_classification": "sigmoid",
    "regression": "identity",
}
_Size = int | tuple[int, int]
# ConvNeXt's processor crops smaller images only.
_CONVNEXT_CROPS_BELOW = 384


def load_hugging_face(name: str, weights: str | Path | None) -> ZooModel:
    """Load an image classifier of Hugging Face.

    Args:
        name (str): Folder written by ``save_pretrained`` of the model and of its image
            processor; or the name of a model on huggingface.co.
        weights (str or Path, optional): State-dict file (.pt, .pth or .safetensors)
            for the model's configuration. Default: None (those of ``name``)

    Returns:
        *ZooModel*: Classifier that returns logits, float32, with the labels of its
        configuration. The activation is "sigmoid" for multi-label classification.

    Raises:
        ValueError: If it is no image classifier, or weights are missing or do not fit.
        OSError: If it is neither a folder nor can be downloaded.
        MissingExtraError: If transformers is not installed.
    """
    with extra("hf"):
        from transformers import AutoImageProcessor
    model = _pretrained(name) if weights is None else _from_file(name, weights)
    processor = _read(AutoImageProcessor, name)
    # Channels are reversed within the model, so that images are RGB for all others.
    reversed_ = bool(getattr(processor, "do_flip_channel_order", False))
    if reversed_:
        processor.do_flip_channel_order = False
    n_channels = getattr(model.config, "num_channels", 3)
    if n_channels not in (1, 3):
        raise ValueError(
            f"name must be hf:NAME of a model of 1 or 3 channels, got {name!r} with "
            f"{n_channels}: write its preprocessing in a function of your own and pass "
            f"FILE.py:FUNCTION."
        )
    preprocess = _preprocessing(processor, "L" if n_channels == 1 else "RGB")
    mean, std = _normalization(preprocess)
    labels = model.config.id2label
    class_names = tuple(str(labels[i]) for i in range(len(labels)))
    return ZooModel(
        _Logits(model, reversed_).eval(),
        preprocess,
        class_names,
        mean,
        std,
        activation=_ACTIVATIONS.get(model.config.problem_type, "softmax"),
    )


class _Logits(nn.Module):
    """A model of transformers as a function from images to logits."""

    def __init__(self, model: nn.Module, reverse_channels: bool) -> None:
        super().__init__()
        self.model = model
        self.reverse_channels = reverse_channels

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.flip(1) if self.reverse_channels else images).logits


def _pretrained(name: str) -> Any:
    """Model with its own weights, none of which may be missing."""
    from transformers import AutoModelForImageClassification

    _check_classifier(name)
    model, report = build(
        _read, AutoModelForImageClassification, name, output_loading_info=True
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"name must be hf:NAME of a model whose classifier is trained, got "
            f"{name!r} without weights of {', '.join(missing[:3])}."
        )
    return model.float()


def _from_file(name: str, weights: str | Path) -> Any:
    """Model of a configuration with a file's weights."""
    from transformers import AutoModelForImageClassification

    state = read_state(weights, [])
    config = _check_classifier(name)
    model = build(AutoModelForImageClassification.from_config, config).float()
    load_state(model, state, f"weights {str(weights)!r}", f"hf:{name}")
    return model


def _check_classifier(name: str) -> Any:
    """Configuration of a model, checked to be an image classifier."""
    from transformers import AutoConfig, AutoModelForImageClassification

    config = _read(AutoConfig, name)
    if type(config) not in AutoModelForImageClassification._model_mapping:
        raise ValueError(
            f"name must be hf:NAME of an image classifier, got {name!r}, a "
            f"{type(config).__name__.removesuffix('Config')}."
        )
    return config


def _read(kind: Any, name: str, **options: Any) -> Any:
    """Configuration, model or processor from a folder or a download."""
    try:
        return kind.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise OSError(
            f"hf:{name} must be a folder with a model and its image processor, or the "
            f"name of a model that can be downloaded from huggingface.co "
            f"({first_sentence(error)}): without a connection, download the model "
            f"elsewhere and pass its folder as hf:FOLDER."
        ) from error


def _preprocessing(processor: Any, mode: str) -> Callable[[Image.Image], Tensor]:
    """Preprocessing, of boxes too if the geometry is resizing and a center crop."""
    geometry = _geometry(processor.to_dict())
    if geometry is None:
        return partial(_of_mode, processor, mode)
    return Preprocessing(partial(_pixels, processor), *geometry, mode)


def _pixels(processor: Any, image: Image.Image) -> Tensor:
    return processor(images=image, return_tensors="pt")["pixel_values"][0]


def _of_mode(processor: Any, mode: str, image: Image.Image) -> Tensor:
    return _pixels(processor, upright_rgb(image).convert(mode))


def _geometry(settings: Mapping[str, Any]) -> tuple[_Size, _Size] | None:
    """Sizes to which a processor resizes and crops; None for other geometries."""
    resize = settings.get("do_resize") and _size(settings["size"])
    if not resize or settings.get("do_pad"):
        return None
    if "crop_pct" in settings and isinstance(resize, int):
        if resize >= _CONVNEXT_CROPS_BELOW:
            return (resize, resize), (resize, resize)
        return int(resize / settings["crop_pct"]), resize
    if settings.get("do_center_crop"):
        crop = _size(settings["crop_size"])
        return (resize, crop) if crop else None
    return (resize, resize) if isinstance(resize, tuple) else None


def _size(given: Mapping[str, int]) -> _Size | None:
    if "height" in given and "width" in given:
        return given["height"], given["width"]
    return given["shortest_edge"] if [*given] == ["shortest_edge"] else None


def _normalization(
    preprocess: Callable[[Image.Image], Tensor],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, from what becomes of a black and a white image.

    Processors have several settings for it: rescaling, offsets, a second normalization.
    """
    black, white = (
        preprocess(Image.new("L", (256, 256), value)).double().mean((1, 2))
        for value in (0, 255)
    )
    std = 1 / (white - black)
    if not (torch.isfinite(std).all() and (std > 0).all()):
        raise ValueError(
            f"name must be hf:NAME of a model with a processor of images, got values "
            f"from {black.tolist()} for black to {white.tolist()} for white."
        )
    return tuple((-black * std).tolist()), tuple(std.tolist())
