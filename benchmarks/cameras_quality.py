"""CAMERAS against Grad-CAM and Grad-CAM++ on real pictures with boxes.

The pictures' labels are explained at the last layer that gives maps. Pointing game,
positive and negative map density; one-sided Wilcoxon signed-rank tests of CAMERAS
against both others, picture by picture.
"""

import argparse
import json
from itertools import islice
from statistics import mean

import torch
from captum.attr import LayerGradCam
from pictures import labelled_pictures, load_network
from scipy.stats import wilcoxon
from torch import Tensor

from captum_ext.attr import LayerCAMERAS, LayerGradCamPlusPlus, last_map_layer
from captum_ext.metrics import (
    negative_map_density,
    pointing_game,
    positive_map_density,
)

BETTER = {
    "pointing_game": "greater",
    "positive_map_density": "greater",
    "negative_map_density": "less",
}


def measures(
    model: torch.nn.Module, x: Tensor, maps: Tensor, label: int, boxes: Tensor
) -> dict[str, float]:
    def probabilities(inputs: Tensor) -> Tensor:
        return model(inputs).softmax(1)

    values = {
        "pointing_game": pointing_game(None, x, maps, boxes=[boxes]),
        "positive_map_density": positive_map_density(probabilities, x, maps, label),
        "negative_map_density": negative_map_density(probabilities, x, maps, label),
    }
    return {name: float(value) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--pictures", type=int, default=300)
    arguments = parser.parse_args()
    entry = load_network(arguments.model)
    rows: list[dict[str, dict[str, float]]] = []
    skipped = {"without box": 0, "without evidence": 0}
    for picture in islice(labelled_pictures(entry), arguments.pictures):
        x, label = picture.inputs, picture.label
        if not len(picture.boxes):
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
        rows.append(
            {
                name: measures(entry.model, x, each.detach(), label, picture.boxes)
                for name, each in maps.items()
            }
        )
    result: dict[str, object] = {
        "benchmark": "cameras_quality",
        "model": arguments.model,
        "pictures": len(rows),
        "skipped": skipped,
    }
    for measure, alternative in BETTER.items():
        values = {name: [row[name][measure] for row in rows] for name in rows[0]}
        ours = values["CAMERAS"]
        result[measure] = {name: round(mean(v), 3) for name, v in values.items()}
        result[f"{measure}_p"] = {
            name: wilcoxon(ours, theirs, alternative=alternative).pvalue
            for name, theirs in values.items()
            if name != "CAMERAS"
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
