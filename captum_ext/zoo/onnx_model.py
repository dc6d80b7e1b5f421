"""ONNX files as black boxes."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import transforms

from captum_ext._extras import extra
from captum_ext.zoo.black_box import BlackBox
from captum_ext.zoo.class_names import default_class_names
from captum_ext.zoo.models import ZooModel
from captum_ext.zoo.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

__all__ = ["load_onnx"]

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


def load_onnx(file: str, weights: str | Path | None = None) -> ZooModel:
    """Load a classifier from an ONNX file.

    Args:
        file (str): File with one input, images (N, C, H, W) or (N, H, W, C) of 1 or 3
            channels, and one output, scores (N, classes). A fixed N is respected.
        weights (str or Path, optional): Must be None, since the file has weights.

    Returns:
        *ZooModel*: A :class:`BlackBox` with torchvision's preprocessing of ImageNet at
        the model's input size, 224 if that is free. Outputs that lie in [0, 1] for
        each of four test images are taken as probabilities.

    Raises:
        ValueError: If the file cannot be read or has other inputs or outputs.
        MissingExtraError: If onnxruntime is not installed.
    """
    if weights is not None:
        raise ValueError(
            f"weights must be left out for an ONNX file, which holds them, got "
            f"{str(weights)!r}."
        )
    network = _Network(Path(file))
    model = BlackBox(network, batch_size=network.batch_size, retries=0)
    # Evaluations tell models apart by their state.
    model.register_buffer("sha256", _digest(Path(file)))
    channels, *size = network.image_shape
    gray = channels == 1
    mean = (sum(IMAGENET_MEAN) / 3,) if gray else IMAGENET_MEAN
    std = (sum(IMAGENET_STD) / 3,) if gray else IMAGENET_STD
    generator = torch.Generator().manual_seed(0)
    noise = 2 * torch.randn(2, channels, *size, generator=generator)
    probes = torch.cat([noise, torch.zeros_like(noise[:1]), 2 * noise.sign()[:1]])
    scores = model(probes)
    class_names = default_class_names(scores.shape[1])
    are_probabilities = bool(((scores >= 0) & (scores <= 1)).all())
    return ZooModel(
        model.eval(),
        _preprocessing((size[0], size[1]), mean, std),
        class_names,
        mean,
        std,
        activation=("identity" if are_probabilities else "softmax"),
    )


def _digest(file: Path) -> Tensor:
    """SHA-256 of a file, and of the weights that PyTorch writes beside it."""
    digest = hashlib.sha256(file.read_bytes())
    beside = file.with_name(f"{file.name}.data")
    if beside.is_file():
        digest.update(beside.read_bytes())
    return torch.tensor([*digest.digest()], dtype=torch.uint8)


def _preprocessing(
    size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> Preprocessing:
    """Torchvision's preprocessing of ImageNet: 224 of 256 pixels; else the whole image.

    An input that is not square shows the whole image.
    """
    height, width = size
    resize = round(height * 256 / 224) if height == width else size
    steps = [
        transforms.Resize(resize),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    mode = "L" if len(mean) == 1 else "RGB"
    return Preprocessing(transforms.Compose(steps), resize, size, mode)


class _Network:
    """Inference session as a function of NumPy images (N, H, W, C)."""

    def __init__(self, file: Path) -> None:
        with extra("onnx"):
            import onnxruntime
        if not file.is_file():
            raise ValueError(
                f"name must be onnx:FILE of an existing file, got {str(file)!r}."
            )
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(file), providers=onnxruntime.get_available_providers()
            )
        except Exception as error:  # onnxruntime's errors have no common base class.
            raise ValueError(
                f"name must be onnx:FILE of an ONNX model, got {str(file)!r} ({error})."
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = [each.shape for each in (*inputs, *outputs)]
        if len(inputs) != 1 or len(outputs) != 1 or len(shapes[0]) != 4:
            raise ValueError(
                f"name must be onnx:FILE of a model with one input, images, and one "
                f"output, scores, got {str(file)!r} with inputs {_listed(inputs)} and "
                f"outputs {_listed(outputs)}: run it in a function of your own and "
                f"pass FILE.py:FUNCTION."
            )
        self._name, self._dtype = inputs[0].name, _DTYPES.get(inputs[0].type)
        n, *axes = (d if isinstance(d, int) and d > 0 else None for d in shapes[0])
        self.batch_size = n
        self._channels_last = axes[0] not in (1, 3) and axes[2] in (1, 3)
        if self._channels_last:
            axes = [axes[2], *axes[:2]]
        if axes[0] not in (1, 3) or self._dtype is None:
            raise ValueError(
                f"name must be onnx:FILE of a model of floating images of 1 or 3 "
                f"channels, got {str(file)!r} with the input {_listed(inputs)}: run it "
                f"in a function of your own and pass FILE.py:FUNCTION."
            )
        self.image_shape = (axes[0], axes[1] or 224, axes[2] or 224)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[Any]:
        n = len(images)
        padding = (self.batch_size or n) - n
        images = np.concatenate([images, np.repeat(images[-1:], padding, 0)])
        if not self._channels_last:
            images = images.transpose(0, 3, 1, 2)
        batch = np.ascontiguousarray(images, self._dtype)
        (scores,) = self._session.run(None, {self._name: batch})
        # Convolutional classifiers may keep two axes of one pixel.
        return scores[:n, :, 0, 0] if scores.shape[2:] == (1, 1) else scores[:n]


def _listed(values: list[Any]) -> str:
    return ", ".join(f"{each.name} {each.type} {each.shape}" for each in values)
