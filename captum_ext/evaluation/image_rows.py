"""One image: explained by every method, judged by every metric."""

import hashlib
import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captum_ext._files import save_image
from captum_ext.datasets.dataset import Example
from captum_ext.evaluation.named_metrics import METRICS
from captum_ext.evaluation.run_folder import Row, image_path, map_path
from captum_ext.evaluation.specs import COMPARED, Choice
from captum_ext.masking import MaskingNetwork
from captum_ext.masks import named_palette
from captum_ext.methods import Method, Subject
from captum_ext.visualization import shown_map
from captum_ext.visualization.array_conversion import read_image
from captum_ext.visualization.painting import overlay
from captum_ext.zoo import ZooModel

__all__ = ["Bench", "Pair", "Target", "rows_of_image", "seed_of"]

Pair = tuple[str, str]
Target = Literal["label", "top1"]

_LOG = logging.getLogger(__name__)
_SHOWN_PIXELS = 224
_COLORS = ["red", "green", "blue", "black", "white"]


class Bench(NamedTuple):
    """What is the same for all images.

    Attributes:
        model (ZooModel): What is explained.
        layer (nn.Module): Where layer methods look.
        methods (Mapping[str, Choice]): By their names in the table.
        metrics (Mapping[str, Choice]): By their names in the table.
        target (str): Whether the "label" is explained, or the "top1" prediction.
        only_correct (bool): Whether images are left out that are classified wrong.
        seed (int): Of the run.
        perturbations_per_eval (int): Images in one call of the model.
        folder (Path): Where images and maps are written.
        masking_network (MaskingNetwork, optional): For methods that ask one.
    """

    model: ZooModel
    layer: nn.Module
    methods: Mapping[str, Choice]
    metrics: Mapping[str, Choice]
    target: Target
    only_correct: bool
    seed: int
    perturbations_per_eval: int
    folder: Path
    masking_network: MaskingNetwork | None = None


class _Sight(NamedTuple):
    """An image as the model sees it, and what it says."""

    subject: Subject
    pixels: Tensor
    boxes: Tensor
    row: Row
    predicted: int


def seed_of(seed: int, name: str) -> int:
    """The seed of an image, whatever comes before it and wherever it is computed.

    Args:
        seed (int): Of the run.
        name (str): Of the image.

    Returns:
        *int*: 0 to 2**32 - 1.

    Examples::

        >>> seed_of(0, "a.jpg") == seed_of(0, "a.jpg") != seed_of(1, "a.jpg")
        True
    """
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def rows_of_image(
    bench: Bench, example: Example, missing: Collection[Pair]
) -> Iterator[Row]:
    """Rows of an image, each as soon as it is known.

    What cannot be computed is a row with its error, and a warning in the log. The
    image and its maps are written before the rows that need them.

    Args:
        bench (Bench): What is the same for all images.
        example (Example): The image.
        missing (collection of pairs): Names of methods and metrics to compute.

    Yields:
        *Row*: One for each pair, or one that says that the image is left out.

    Raises:
        OSError: If the image or a map cannot be written.
    """
    by_method = defaultdict(list)
    for method, metric in missing:
        by_method[method].append(metric)
    try:
        sight = _look(bench, example)
    except Exception as error:
        for method, metrics in by_method.items():
            yield from _failed(Row(example.name), method, metrics, error)
        return
    if bench.only_correct and sight.predicted not in example.labels:
        yield sight.row
        return
    save_image(_image(sight.pixels), image_path(bench.folder, example.name))
    explain = _Maps(bench, sight.subject)
    for method, metrics in by_method.items():
        try:
            maps, seconds = explain(bench.methods[method])
            drawn = _draw(COMPARED[bench.methods[method].use], sight.pixels, maps)
        except Exception as error:
            yield from _failed(sight.row, method, metrics, error)
            continue
        save_image(drawn, map_path(bench.folder, example.name, method))
        row = sight.row._replace(seconds=seconds)
        for metric in metrics:
            try:
                value, curve = _judge(bench, metric, sight, maps)
            except Exception as error:
                yield from _failed(row, method, [metric], error)
                continue
            yield row._replace(method=method, metric=metric, value=value, curve=curve)


def _failed(
    row: Row, method: str, metrics: Collection[str], error: Exception
) -> Iterator[Row]:
    text = " ".join(str(error).split()) or type(error).__name__
    for metric in metrics:
        _LOG.warning("%s, %s, %s: %s", row.image, method, metric, text)
        yield row._replace(method=method, metric=metric, error=text)


def _look(bench: Bench, example: Example) -> _Sight:
    entry = bench.model
    image = example.read()
    parameter = next(entry.model.parameters())
    normalized = entry.preprocess(image)
    inputs = normalized[None].to(parameter.device, memory_format=torch.channels_last)
    with torch.no_grad():
        probabilities = entry.model(inputs).softmax(1)[0]
    predicted = int(probabilities.argmax())
    # Several classes may be right: the one that the model finds most probable counts.
    label = max(example.labels, key=lambda i: float(probabilities[i]), default=None)
    target = predicted if bench.target == "top1" or label is None else label
    subject = Subject(
        entry.model,
        bench.layer,
        inputs,
        target,
        named_palette(_COLORS, entry.mean, entry.std),
        seed_of(bench.seed, example.name),
        masking_network=bench.masking_network,
    )
    return _Sight(
        subject,
        entry.denormalize(normalized),
        _boxes_of(bench, example, target, image),
        Row(example.name, label, target, float(probabilities[target])),
        predicted,
    )


def _boxes_of(
    bench: Bench, example: Example, target: int, image: Image.Image
) -> Tensor:
    """Boxes (N, 4) of the target, in pixels of what the model sees."""
    edges = [box.edges for box in example.boxes if target in box.classes]
    if not edges:
        return torch.empty(0, 4)
    size = (image.height, image.width)
    preprocess: Any = bench.model.preprocess
    return preprocess.boxes(torch.tensor(edges), size)


class _Maps:
    """Maps of an image, each computed once: some are the priors of others."""

    def __init__(self, bench: Bench, subject: Subject) -> None:
        self._bench, self._subject = bench, subject
        self._known: dict[str, tuple[Tensor, float]] = {}

    def __call__(self, choice: Choice) -> tuple[Tensor, float]:
        """A map (1, any, H, W) on the CPU, and the seconds that it took, as a whole."""
        key = json.dumps(choice.describe())
        if key not in self._known:
            self._known[key] = self._explain(choice)
        return self._known[key]

    def _explain(self, choice: Choice) -> tuple[Tensor, float]:
        method, before = COMPARED[choice.use], 0.0
        options = _with_defaults(self._bench, method.options(), choice)
        prior = options.get("prior")
        if isinstance(prior, Choice):
            options["prior"], before = self(prior)
        start = time.perf_counter()
        maps = method.attribute(self._subject, **options).cpu()
        return maps, before + time.perf_counter() - start


def _judge(
    bench: Bench, name: str, sight: _Sight, maps: Tensor
) -> tuple[float, list[float] | None]:
    choice = bench.metrics[name]
    metric = METRICS[choice.use]
    if metric.needs_boxes and not len(sight.boxes):
        raise ValueError(
            f"image must show a box of class {sight.subject.target} to the model, "
            f"got none."
        )
    options = _with_defaults(bench, metric.options(), choice)
    value, curve = metric.metric(sight.subject, maps, sight.boxes, **options)
    if not math.isfinite(value):
        raise ValueError(f"metric must give a finite value, got {value}.")
    return value, curve


def _with_defaults(
    bench: Bench, known: Collection[str], choice: Choice
) -> dict[str, Any]:
    """A choice's arguments, and those of the bench that it takes and leaves open."""
    defaults = {
        "perturbations_per_eval": bench.perturbations_per_eval,
        # Of attacks: the paper's for pixels in [0, 1], in units of the inputs.
        "radius": 12 / 255 / fmean(bench.model.std),
    }
    return {name: defaults[name] for name in defaults if name in known} | choice.options


def _draw(method: Method, pixels: Tensor, maps: Tensor) -> Image.Image:
    """The map over a gray version of the image."""
    shown = maps[0].mean(0)
    values = shown_map(shown - shown.min() if method.relief else shown)
    signed = bool(values.min() < 0)
    drawn = _image(overlay(read_image(pixels, "image"), values, signed))
    # 256 colors look the same and take half the space.
    return drawn.quantize(256, dither=Image.Dither.NONE)


def _image(pixels: Any) -> Image.Image:
    """A small image of pixels in [0, 1]."""
    array = read_image(pixels, "image")
    image = Image.fromarray((array * 255).round().astype(np.uint8))
    image.thumbnail((_SHOWN_PIXELS, _SHOWN_PIXELS))
    return image
