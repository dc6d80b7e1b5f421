"""Iterative masks of two settings on real images: saliency metric and pointing game.

Explains the images' labels. Masks are thresholded at one half for the saliency metric,
as in its paper. One row per image and setting is appended to the output file; a command
that was stopped resumes. The line at the end holds means, differences to the setting of
the paper, and p-values of two-sided Wilcoxon signed-rank tests over the images.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from images import LabeledImage, labeled_images, load_network
from rows import RowFile, read_rows
from torch import Tensor
from torch.fx.experimental.optimization import fuse

from captum_ext.attr import IterativeMask
from captum_ext.evaluation.statistics import signed_rank
from captum_ext.masking import SaliencyObjective
from captum_ext.metrics import pointing_game, saliency_metric

SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "paper": lambda: {
        "objective": SaliencyObjective(),
        "mask_stride": 4,
        "n_steps": 200,
        "learning_rate": 0.1,
    },
    "default": dict,
}
# Whether a metric is better when higher (1) or lower (-1).
METRICS = {"saliency_metric": -1, "pointing_game": 1}

Probabilities = Callable[[Tensor], Tensor]


def measured(f: Probabilities, image: LabeledImage, name: str) -> dict[str, float]:
    """Metrics of a mask, and the seconds that it took."""
    x, label = image.inputs, image.label
    start = time.perf_counter()
    mask = IterativeMask(f).attribute(x, label, **SETTINGS[name]())
    seconds = time.perf_counter() - start
    values = {
        "saliency_metric": saliency_metric(f, x, mask, label, thresholding="mask"),
        "pointing_game": pointing_game(None, x, mask, boxes=[image.boxes]),
        "area": mask.mean(),
        "seconds": seconds,
    }
    return {key: round(float(value), 5) for key, value in values.items()}


def missing(
    file: RowFile, arguments: argparse.Namespace, images: Iterator[LabeledImage]
) -> Iterator[tuple[LabeledImage, str]]:
    """Images and settings that the output file lacks."""
    for image in islice(images, arguments.skip, arguments.skip + arguments.images):
        for name in SETTINGS:
            if len(image.boxes) and not file.has(image.name, name):
                yield image, name


def report(rows: pd.DataFrame) -> dict[str, Any]:
    """Means of both settings, and the difference in favor of the default."""
    result: dict[str, Any] = {}
    for metric, sign in METRICS.items():
        values = rows.pivot_table(metric, "image", "setting").dropna()
        differences = sign * (values["default"] - values["paper"])
        result[metric] = {
            "images": len(values),
            **values.mean().round(3).to_dict(),
            "p": float(f"{signed_rank(differences).p:.2g}"),
        }
    by_setting = rows.groupby("setting")
    result["area"] = by_setting["area"].mean().round(3).to_dict()
    result["median_seconds"] = by_setting["seconds"].median().round(1).to_dict()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="file of rows")
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--skip", type=int, default=0, help="images to leave out first")
    arguments = parser.parse_args()
    entry = load_network(arguments.model)
    # The batch norms are part of the convolutions: the same function, in less time.
    model = fuse(entry.model).to(memory_format=torch.channels_last)

    def probabilities(inputs: Tensor) -> Tensor:
        return model(inputs).softmax(1)

    file = RowFile(arguments.output, ("image", "setting"))
    for image, name in missing(file, arguments, labeled_images(entry)):
        values = measured(probabilities, image, name)
        file.append({"image": image.name, "setting": name, **values})
    result = {"benchmark": "iterative_mask_quality", "model": arguments.model}
    rows = pd.DataFrame(read_rows(arguments.output))
    print(json.dumps(result | report(rows)))


if __name__ == "__main__":
    main()
