"""Quality of CAMERAS and of other class activation maps on images with boxes.

Explains the images' labels and appends one row per network, image and method to the
output file; a command that was stopped resumes. ``--report`` prints the means and the
paired tests of CAMERAS against each other method; ``--interpolated`` repeats a check of
the paper's supplement instead.

Other methods use the last layer of the features, CAMERAS the last layer with maps,
which is the same in mobilenet_v2; in squeezenet1_0 it is the classifier's convolution,
whose maps are those of the classes (``class_map``). CAMERAS and RefineCAM also use the
last layer of the stage before. ``cameras_paper`` is the paper's: one layer, evenly
spaced sizes.
LayerCAM, HiResCAM and RefineCAM are written from their formulas; where the features are
followed by a mean or a linear map of each position, HiResCAM is Grad-CAM.

Metrics: insertion and deletion from the mean color, the mean F of the k highest pixels
over all k, the pointing game (15 pixels of tolerance), and the map densities. A map of
zeros counts as a constant one, whose pixels have no order.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from captum.attr import LayerGradCam
from images import LabeledImage, labeled_images, load_network
from quality_per_pass import sign_flip_p
from rows import RowFile, difference_table, markdown, read_rows
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.attr import LayerCAMERAS, MapLayer, last_map_layer
from captum_ext.attr.grad_cam_plus_plus import channel_weights
from captum_ext.attr.layers import evaluate_layer
from captum_ext.evaluation.statistics import holm
from captum_ext.metrics import (
    deletion,
    f_measure,
    insertion,
    negative_map_density,
    pointing_game,
    positive_map_density,
)
from captum_ext.metrics.pixel_maps import spatial_maps, unit_maps

KEYS = ["model", "image", "method"]
OURS = "cameras"
# Whether a metric is better when higher (1) or lower (-1).
METRICS = {
    "pointing": 1,
    "f": 1,
    "positive_density": 1,
    "negative_density": -1,
    "insertion": 1,
    "deletion": -1,
}
LEVEL = 0.05
GAMMAS = [0, 0.25, 0.5, 0.75, 1]
# Last layers of features other than the last layer with maps.
FEATURES = {"squeezenet1_0": "features.12"}


class Subject(NamedTuple):
    """A network, its last layers with maps and of features, an image and its class."""

    model: nn.Module
    last: MapLayer
    layer: nn.Module
    inputs: Tensor
    label: int

    def cameras(self, layers: list[nn.Module], **options: Any) -> Any:
        method = LayerCAMERAS(self.model, layers)
        return method.attribute(self.inputs, self.label, **options)

    def at(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """Activations and gradients (1, C, h, w) at a layer."""
        found = evaluate_layer(self.model, layer, (self.inputs,), self.label)
        return found.activations[0], found.gradients[0]

    def resized(self, maps: Tensor) -> Tensor:
        """Maps (1, 1, h, w) at the size of the image."""
        return F.interpolate(maps, self.inputs.shape[2:], mode="bilinear")


def _probabilities(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).softmax(1)


def summed(products: Tensor) -> Tensor:
    return F.relu(products.sum(1, keepdim=True))


def grad_cam(s: Subject) -> Tensor:
    method = LayerGradCam(s.model, s.layer)
    maps = method.attribute(s.inputs, s.label, relu_attributions=True)
    return s.resized(maps.detach())


def grad_cam_plus_plus(s: Subject, layer: nn.Module) -> Tensor:
    A, g = s.at(layer)
    return s.resized(summed(channel_weights(A, g) * A))


def layer_cam(s: Subject) -> Tensor:
    A, g = s.at(s.layer)
    return s.resized(summed(F.relu(g) * A))


def hires_cam(s: Subject) -> Tensor:
    A, g = s.at(s.layer)
    return s.resized(summed(g * A))


def refine_cam(s: Subject) -> Tensor:
    """Product over layers of Grad-CAM++ maps, each stretched to [0, 1]."""
    product = torch.ones(1)
    finer = [each.layer for each in s.last.stages[:-1]]
    for layer in [*finer, s.layer]:
        maps = grad_cam_plus_plus(s, layer)
        maps = maps - maps.min()
        product = product * maps / maps.max().clamp(min=1e-8)
    return product


METHODS: dict[str, Callable[[Subject], Tensor]] = {
    "cameras": lambda s: s.cameras([each.layer for each in s.last.stages]),
    "cameras_one_layer": lambda s: s.cameras([s.last.layer]),
    "cameras_paper": lambda s: s.cameras([s.last.layer], sizes="paper"),
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": lambda s: grad_cam_plus_plus(s, s.layer),
    "layer_cam": layer_cam,
    "hires_cam": hires_cam,
    "refine_cam": refine_cam,
    "class_map": lambda s: grad_cam(s._replace(layer=s.last.layer)),
}
# What the new maps are compared with, apart from their own variants.
PEERS = [name for name in METHODS if not name.startswith("cameras")]


def qualities(
    s: Subject, image: LabeledImage, maps: Tensor, n_steps: int
) -> dict[str, float]:
    """Values of a map (1, 1, H, W)."""
    at = (partial(_probabilities, s.model), s.inputs)
    steps: dict[str, Any] = {"n_steps": n_steps, "perturbations_per_eval": n_steps}
    shown = maps if maps.max() > 0 else torch.ones_like(maps)
    values = {
        "pointing": pointing_game(None, s.inputs, maps, boxes=[image.boxes]),
        "f": f_measure(None, s.inputs, maps, boxes=[image.boxes]) / maps.numel(),
        "positive_density": positive_map_density(*at, shown, s.label),
        "negative_density": negative_map_density(*at, shown, s.label),
        "insertion": insertion(*at, maps, s.label, **steps),
        "deletion": deletion(*at, maps, s.label, **steps),
    }
    return {name: round(float(value), 5) for name, value in values.items()}


def run(arguments: argparse.Namespace, names: list[str]) -> None:
    """Append the rows that the output file lacks."""
    file = RowFile(arguments.output, KEYS)
    entry = load_network(arguments.model)
    last = last_map_layer(entry.model, next(labeled_images(entry)).inputs)
    layer = entry.model.get_submodule(FEATURES.get(arguments.model, last.name))
    images = islice(labeled_images(entry), arguments.skip, None)
    for image in islice(images, arguments.n_images):
        if not len(image.boxes):
            continue
        subject = Subject(entry.model, last, layer, image.inputs, image.label)
        for name in names:
            key = (arguments.model, image.name, name)
            if file.has(*key):
                continue
            start = time.perf_counter()
            maps = METHODS[name](subject).detach()
            seconds = round(time.perf_counter() - start, 3)
            values = qualities(subject, image, maps, arguments.n_steps)
            file.append(dict(zip(KEYS, key)) | {"seconds": seconds} | values)
        print(image.name, file=sys.stderr, flush=True)


def interpolated_densities(model_name: str, n_images: int) -> dict[float, float]:
    """Positive map density between the maps of CAMERAS and Grad-CAM.

    The supplement's Equation (2): the mean over images of the density of the map
    CAMERAS + gamma (Grad-CAM - CAMERAS), with the paper's CAMERAS.
    """
    entry = load_network(model_name)
    last = last_map_layer(entry.model, next(labeled_images(entry)).inputs)
    densities = []
    for image in islice(labeled_images(entry), n_images):
        s = Subject(entry.model, last, last.layer, image.inputs, image.label)
        cameras, other = (METHODS[name](s) for name in ("cameras_paper", "grad_cam"))
        if not (cameras.any() and other.any()):
            continue
        one, other = (
            unit_maps(spatial_maps(maps, s.inputs))[:, None]
            for maps in (cameras, other)
        )
        forward = partial(_probabilities, s.model)
        densities.append(
            [
                positive_map_density(
                    forward, s.inputs, one + g * (other - one), s.label, rescale=False
                )
                for g in GAMMAS
            ]
        )
    means = torch.tensor(densities).mean(0).tolist()
    return {gamma: round(mean, 3) for gamma, mean in zip(GAMMAS, means)}


def test_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean difference to each other method, positive where CAMERAS is better, and p.

    P-values are two-sided, by random flips of the pairs, corrected by Holm's method
    within a metric and network, for other methods and CAMERAS's variants separately.
    """
    tests = []
    for model, group in rows.groupby("model", sort=False):
        for metric, sign in METRICS.items():
            table = group.pivot_table(metric, "image", "method", sort=False)
            variants = [n for n in table if n not in PEERS and n != OURS]
            for others in ([n for n in PEERS if n in table], variants):
                pairs = [sign * (table[OURS] - table[n]).dropna() for n in others]
                p = holm([sign_flip_p(d.to_numpy()) for d in pairs])
                tests += [
                    (model, metric, name, d.mean(), value)
                    for name, d, value in zip(others, pairs, p)
                ]
    columns = ["model", "metric", "method", "difference", "p"]
    return pd.DataFrame(tests, columns=columns)


def verdicts(tests: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    """Metrics in which CAMERAS beats all other methods, or is worse than any."""
    peers = tests[tests.method.isin(PEERS)]
    judged = peers.assign(
        best=(peers.p < LEVEL) & (peers.difference > 0),
        worse=(peers.p < LEVEL) & (peers.difference < 0),
    )
    found: dict[str, dict[str, list[str]]] = {}
    for model, group in judged.groupby("model", sort=False):
        by = group.groupby("metric", sort=False)
        best, worse = by["best"].all(), by["worse"].any()
        found[model] = {
            "significantly_best": [*best.index[best]],
            "significantly_worse": [*worse.index[worse]],
        }
    return found


def report(rows: pd.DataFrame) -> dict[str, Any]:
    """Print the tables; return the last line."""
    groups = rows.groupby(["model", "method"], sort=False)
    means = groups[[*METRICS]].mean()
    means = means.assign(
        seconds=groups["seconds"].median(), images=groups["image"].nunique()
    )
    print(markdown(means.round(3)), "\n")
    tests = test_table(rows)
    print(f"{OURS} minus each other method, signed so that + is better (p)")
    print(markdown(difference_table(tests, ["model", "method"])), "\n")
    return verdicts(tests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--n-images", type=int, default=300)
    parser.add_argument("--n-steps", type=int, default=28)
    parser.add_argument("--methods", help="names with commas (default: all)")
    parser.add_argument("--output", type=Path, help="JSONL file of rows")
    parser.add_argument("--report", action="store_true", help="only print the tables")
    parser.add_argument(
        "--interpolated",
        action="store_true",
        help="only print densities of maps between CAMERAS and Grad-CAM",
    )
    arguments = parser.parse_args()
    if arguments.interpolated:
        found = interpolated_densities(arguments.model, arguments.n_images)
        print(json.dumps({"benchmark": "cameras_quality", "density": found}))
        return
    if arguments.output is None:
        parser.error("--output is needed without --interpolated")
    names = arguments.methods.split(",") if arguments.methods else list(METHODS)
    if not set(names) <= set(METHODS):
        parser.error(f"--methods must be among {', '.join(METHODS)}; got {names}")
    if not arguments.report:
        run(arguments, names)
    rows = pd.DataFrame(read_rows(arguments.output))
    rows = rows[rows.method.isin(names)]
    order = rows.method.map(list(METHODS).index)
    rows = rows.assign(order=order).sort_values(["model", "order"])
    result = {"benchmark": "cameras_quality", "rows": len(rows)}
    print(json.dumps(result | report(rows)))


if __name__ == "__main__":
    main()
