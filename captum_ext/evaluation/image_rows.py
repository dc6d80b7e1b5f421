"""Evaluate one image: maps of all methods and values of all metrics."""

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_ext._files import WriteError, save_image
from captum_ext.attr import MapLayer
from captum_ext.datasets.dataset import Example
from captum_ext.evaluation.image_maps import ImageMaps
from captum_ext.evaluation.metric_specs import find_metric
from captum_ext.evaluation.options import Target
from captum_ext.evaluation.run_folder import Row, image_path, map_path
from captum_ext.methods import Method
from captum_ext.methods.specs import Spec, find_method
from captum_ext.subject import Subject, build_subject
from captum_ext.visualization import overlay
from captum_ext.visualization.array_conversion import ArrayLike, read_image
from captum_ext.zoo import BlackBoxError, BoxPreprocessing, ZooModel

__all__ = ["EvaluationConfig", "Pair", "rows_of_image", "seed_of"]

Pair = tuple[str, str]

_LOG = logging.getLogger(__name__)
_SHOWN_PIXELS = 224


class EvaluationConfig(NamedTuple):
    """Settings that all images of a run share.

    Attributes:
        model (ZooModel): Classifier to explain, with its masking network if a method
            needs one.
        layer (MapLayer, optional): Layer that layer methods use, if one needs it.
        methods (Mapping[str, Spec]): Methods by their names in the table.
        metrics (Mapping[str, Spec]): Metrics by their names in the table.
        target (str): Class to explain: the "label" or the "top1" prediction.
        only_correct (bool): Whether misclassified images are left out.
        seed (int): Seed of the run.
        perturbations_per_eval (int): Number of images per call of the model.
        folder (Path): Folder of the run, for images and maps.
    """

    model: ZooModel
    layer: MapLayer | None
    methods: Mapping[str, Spec]
    metrics: Mapping[str, Spec]
    target: Target
    only_correct: bool
    seed: int
    perturbations_per_eval: int
    folder: Path


class _ImageContext(NamedTuple):
    """An image with everything that its rows share.

    Attributes:
        subject (Subject): Image, target and settings of methods.
        boxes (Tensor): Boxes of the target in pixels of the model's input, (N, 4).
        row (Row): Row without method and metric.
    """

    subject: Subject
    boxes: Tensor
    row: Row


def seed_of(seed: int, name: str) -> int:
    """Seed of an image, independent of other images and of the process.

    Args:
        seed (int): Seed of the run.
        name (str): Name of the image.

    Returns:
        *int*: Seed from 0 to 2**32 - 1.

    Examples::

        >>> seed_of(0, "a.jpg") == seed_of(0, "a.jpg") != seed_of(1, "a.jpg")
        True
    """
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def rows_of_image(
    config: EvaluationConfig, example: Example, missing: Collection[Pair]
) -> Iterator[Row]:
    """Compute the rows of an image, each yielded as soon as it is available.

    A failure gives a row with its error and a warning in the log. The image and its
    maps are written before the rows that refer to them.

    Args:
        config (EvaluationConfig): Settings of the run.
        example (Example): Image with its labels and boxes.
        missing (collection of pairs): Names of the methods and metrics to compute.

    Yields:
        *Row*: One row per pair, or a single row without method and metric if the image
        is left out.

    Raises:
        OSError: If the image or a map cannot be written, or a black box cannot be
            called any more.
    """
    by_method = defaultdict(list)
    for method, metric in missing:
        by_method[method].append(metric)
    try:
        context = _image_context(config, example)
    except Exception as error:
        for method, metrics in by_method.items():
            yield from _failed(Row(example.name), method, metrics, error)
        return
    subject = context.subject
    predicted = int(subject.class_probabilities.argmax())
    if config.only_correct and predicted not in example.labels:
        yield context.row
        return
    save_image(_thumbnail(subject.image), image_path(config.folder, example.name))
    maps_of = _image_maps(config, context)
    for method, metrics in by_method.items():
        try:
            maps, seconds = maps_of(config.methods[method])
            drawn = _draw(find_method(config.methods[method].use), subject.image, maps)
        except Exception as error:
            yield from _failed(context.row, method, metrics, error)
            continue
        save_image(drawn, map_path(config.folder, example.name, method))
        row = context.row._replace(seconds=seconds)
        for metric in metrics:
            try:
                value, curve = _measure(config, metric, method, context, maps)
            except Exception as error:
                yield from _failed(row, method, [metric], error)
                continue
            yield row._replace(method=method, metric=metric, value=value, curve=curve)


def _failed(
    row: Row, method: str, metrics: Collection[str], error: Exception
) -> Iterator[Row]:
    # A run is resumed once the black box can be called, or the disk written, again;
    # rows would stay.
    if isinstance(error, (BlackBoxError, WriteError)):
        raise error
    text = " ".join(str(error).split()) or type(error).__name__
    for metric in metrics:
        _LOG.warning("%s, %s, %s: %s", row.image, method, metric, text)
        yield row._replace(method=method, metric=metric, error=text)


def _image_context(config: EvaluationConfig, example: Example) -> _ImageContext:
    model, image = config.model, example.read()
    subject = build_subject(
        model,
        model.preprocess(image),
        (example.labels or None) if config.target == "label" else None,
        layer=config.layer,
        seed=seed_of(config.seed, example.name),
    )
    probabilities, target = subject.class_probabilities.tolist(), subject.target
    label = max(example.labels, key=lambda i: probabilities[i], default=None)
    return _ImageContext(
        subject,
        _target_boxes(model, example, target, image),
        Row(example.name, label, target, probabilities[target]),
    )


def _target_boxes(
    model: ZooModel, example: Example, target: int, image: Image.Image
) -> Tensor:
    """Boxes (N, 4) of the target, in pixels of the model's input."""
    edges = [box.edges for box in example.boxes if target in box.classes]
    if not edges or not isinstance(model.preprocess, BoxPreprocessing):
        return torch.empty(0, 4)
    return model.preprocess.boxes(torch.tensor(edges), (image.height, image.width))


def _image_maps(config: EvaluationConfig, context: _ImageContext) -> ImageMaps:
    """Maps of an image, with a file for each method of the table."""
    files = {
        ImageMaps.key(spec): map_path(config.folder, context.row.image, name, ".npz")
        for name, spec in config.methods.items()
    }
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    return ImageMaps(context.subject, files, _defaults(config))


def _measure(
    config: EvaluationConfig,
    name: str,
    method: str,
    context: _ImageContext,
    maps: Tensor,
) -> tuple[float, list[float] | None]:
    spec = config.metrics[name]
    metric = find_metric(spec.use)
    if metric.needs_boxes and not len(context.boxes):
        raise ValueError(
            f"image must show a box of class {context.subject.target} to the model, "
            f"got none."
        )
    defaults = _defaults(config)
    if find_method(config.methods[method].use).mask:
        defaults["thresholding"] = "mask"
    options = spec.completed(defaults, metric.options())
    value, curve = metric.evaluate(context.subject, maps, context.boxes, **options)
    if not math.isfinite(value):
        reason = f" because {metric.undefined}" if metric.undefined else ""
        raise ValueError(f"metric must give a finite value, got {value}{reason}.")
    return value, curve


def _defaults(config: EvaluationConfig) -> dict[str, Any]:
    """Arguments of the methods and metrics that accept them."""
    return {"perturbations_per_eval": config.perturbations_per_eval}


def _draw(method: Method, pixels: Tensor, maps: Tensor) -> Image.Image:
    """Draw the map over the image."""
    drawn = _thumbnail(overlay(pixels, method.displayed(maps), method.signed))
    # 256 colors look the same and need half the space.
    return drawn.quantize(256, dither=Image.Dither.NONE)


def _thumbnail(pixels: ArrayLike) -> Image.Image:
    """Small version of an image."""
    array = read_image(pixels, "image")
    image = Image.fromarray((array * 255).round().astype(np.uint8))
    image.thumbnail((_SHOWN_PIXELS, _SHOWN_PIXELS))
    return image
