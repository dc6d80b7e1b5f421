"""Evaluate one image: maps of all methods and values of all metrics."""

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import partial
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
from captum_ext.evaluation.named_metrics import METRICS
from captum_ext.evaluation.options import Target
from captum_ext.evaluation.run_folder import Row, image_path, map_path
from captum_ext.methods import Method
from captum_ext.methods.argument_types import TrialModel, refused_value
from captum_ext.methods.reference_maps import RandomMap
from captum_ext.methods.specs import COMPARED, Spec, find_method, method_options
from captum_ext.subject import Subject, build_subject
from captum_ext.visualization import overlay
from captum_ext.visualization.array_conversion import ArrayLike, read_image
from captum_ext.zoo import BlackBoxError, BoxPreprocessing, ZooModel

__all__ = ["EvaluationConfig", "Pair", "find_refused", "rows_of_image", "seed_of"]

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


def find_refused(
    config: EvaluationConfig, example: Example, known: Collection[str]
) -> str:
    """Try the values of arguments on an image, without a forward pass for its maps.

    Methods and metrics of others check values in ways that cannot be told from errors
    of the image, so that theirs are not tried.

    Args:
        config (EvaluationConfig): Settings of the run.
        example (Example): Image.
        known (collection of str): Names of methods and metrics that are not tried.

    Returns:
        *str*: Error of the first value that is refused; empty if there is none, or the
        image cannot be read.

    Raises:
        OSError: If a black box cannot be called.
    """
    methods = _to_try(config.methods, COMPARED, known)
    metrics = _to_try(config.metrics, METRICS, known)
    if not methods and not metrics:
        return ""
    try:
        context = _image_context(config, example)
    except BlackBoxError:
        raise
    except Exception:
        return ""
    subject = context.subject
    height, width = subject.inputs.shape[2:]
    trial = config.model._replace(model=TrialModel(config.model.model))
    subject = subject._replace(classifier=trial)
    boxes = torch.tensor([[0.0, 0.0, width, height]])
    context = context._replace(subject=subject, boxes=boxes)
    maps_of = ImageMaps(subject, {}, _defaults(config))
    maps, anyone = RandomMap(None).attribute(subject.inputs), next(iter(config.methods))
    for name, spec in methods.items():
        for each in _without_priors(spec):
            options = method_options(find_method(each.use))
            if error := refused_value(partial(maps_of, each), options):
                return f"methods must give {name} values that it accepts: {error}"
    for name, spec in metrics.items():
        options = find_metric(spec.use).options()
        value = partial(_measure, config, name, anyone, context, maps)
        if error := refused_value(value, options):
            return f"metrics must give {name} values that it accepts: {error}"
    return ""


def _to_try(
    specs: Mapping[str, Spec], ours: Collection[str], known: Collection[str]
) -> dict[str, Spec]:
    """Specs with arguments, of what this package has, that are not known."""
    return {
        name: spec
        for name, spec in specs.items()
        if spec.options and spec.use in ours and name not in known
    }


def _without_priors(spec: Spec) -> Iterator[Spec]:
    """Specs of a method and of its priors, each to be tried by itself."""
    prior = spec.options.get("prior")
    if isinstance(prior, Spec):
        yield from _without_priors(prior)
        spec = spec._replace(options=spec.options | {"prior": None})
    if spec.use in COMPARED:
        yield spec


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
