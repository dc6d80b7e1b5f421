"""CAMERAS against Grad-CAM and Grad-CAM++ on real images with boxes.

Explains the images' labels at the last layer with maps. Compares the pointing game and
positive and negative map density, with one-sided Wilcoxon signed-rank tests of CAMERAS
against each of the others over the images. Also repeats a check of the supplement: how
positive map density falls when maps are interpolated from CAMERAS to Grad-CAM by its
Equation (2).
"""

import argparse
import json
from collections.abc import Callable
from itertools import islice
from statistics import mean

import torch
from captum.attr import LayerGradCam
from images import labeled_images, load_network
from scipy.stats import wilcoxon
from torch import Tensor

from captum_ext.attr import LayerCAMERAS, LayerGradCamPlusPlus, last_map_layer
from captum_ext.metrics import (
    negative_map_density,
    pointing_game,
    positive_map_density,
)
from captum_ext.metrics.pixel_maps import spatial_maps, unit_maps

BETTER = {
    "pointing_game": "greater",
    "positive_map_density": "greater",
    "negative_map_density": "less",
}


GAMMAS = [0, 0.25, 0.5, 0.75, 1]


def probabilities_of(model: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda inputs: model(inputs).softmax(1)


def interpolated_densities(
    model: torch.nn.Module, x: Tensor, maps: dict[str, Tensor], label: int
) -> list[float]:
    cameras, grad_cam = (
        unit_maps(spatial_maps(maps[name], x))[:, None]
        for name in ("CAMERAS", "Grad-CAM")
    )
    return [
        float(
            positive_map_density(
                probabilities_of(model),
                x,
                cameras + gamma * (grad_cam - cameras),
                label,
                rescale=False,
            )
        )
        for gamma in GAMMAS
    ]


def metrics(
    model: torch.nn.Module, x: Tensor, maps: Tensor, label: int, boxes: Tensor
) -> dict[str, float]:
    probabilities = probabilities_of(model)
    values = {
        "pointing_game": pointing_game(None, x, maps, boxes=[boxes]),
        "positive_map_density": positive_map_density(probabilities, x, maps, label),
        "negative_map_density": negative_map_density(probabilities, x, maps, label),
    }
    return {name: float(value) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--images", type=int, default=300)
    arguments = parser.parse_args()
    entry = load_network(arguments.model)
    rows: list[dict[str, dict[str, float]]] = []
    interpolated: list[list[float]] = []
    skipped = {"without box": 0, "without evidence": 0}
    for image in islice(labeled_images(entry), arguments.images):
        x, label = image.inputs, image.label
        if not len(image.boxes):
            skipped["without box"] += 1
            continue
        at = (entry.model, last_map_layer(entry.model, x)[1])
        maps = {
            "Grad-CAM": LayerGradCam(*at).attribute(x, label, relu_attributions=True),
            "Grad-CAM++": LayerGradCamPlusPlus(*at).attribute(
                x, label, relu_attributions=True
            ),
            "CAMERAS": LayerCAMERAS(*at).attribute(x, label),
        }
        if any(each.max() <= 0 for each in maps.values()):
            skipped["without evidence"] += 1
            continue
        maps = {name: each.detach() for name, each in maps.items()}
        interpolated.append(interpolated_densities(entry.model, x, maps, label))
        rows.append(
            {
                name: metrics(entry.model, x, each, label, image.boxes)
                for name, each in maps.items()
            }
        )
    result: dict[str, object] = {
        "benchmark": "cameras_quality",
        "model": arguments.model,
        "images": len(rows),
        "skipped": skipped,
    }
    result["positive_map_density_from_cameras_to_grad_cam"] = {
        gamma: round(mean(values), 3) for gamma, *values in zip(GAMMAS, *interpolated)
    }
    for metric, alternative in BETTER.items():
        values = {name: [row[name][metric] for row in rows] for name in rows[0]}
        ours = values["CAMERAS"]
        result[metric] = {name: round(mean(v), 3) for name, v in values.items()}
        result[f"{metric}_p"] = {
            name: wilcoxon(ours, theirs, alternative=alternative).pvalue
            for name, theirs in values.items()
            if name != "CAMERAS"
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
