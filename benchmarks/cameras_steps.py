"""Difference between maps of CAMERAS with different numbers of sizes.

The supplement's Table 2: for each pair of numbers of steps, the mean over images of

    ||Psi_1 - Psi_2||_2 / ((||Psi_1||_2 + ||Psi_2||_2) / 2).

Explains the predicted classes, with searched sizes and two layers, or with the paper's
sizes and one layer. Writes the table to standard error and the JSON line to
standard output.
"""

import argparse
import json
import sys
from itertools import islice

import torch
from images import labeled_images, load_network
from torch import Tensor

from captum_ext.attr import LayerCAMERAS, last_map_layer

STEPS = range(5, 11)


def difference(one: Tensor, other: Tensor) -> float:
    mean_norm = (one.norm() + other.norm()) / 2
    return float((one - other).norm() / mean_norm) if mean_norm > 0 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--sizes", choices=["search", "paper"], default="search")
    arguments = parser.parse_args()
    entry = load_network(arguments.model)
    tables = []
    for image in islice(labeled_images(entry), arguments.images):
        x = image.inputs
        with torch.no_grad():
            target = int(entry.model(x).argmax())
        last = last_map_layer(entry.model, x)
        layers = [each.layer for each in last.stages]
        paper = arguments.sizes == "paper"
        cameras = LayerCAMERAS(entry.model, layers[-1:] if paper else layers)
        maps = [
            cameras.attribute(x, target, n_steps=n, sizes=arguments.sizes)
            for n in STEPS
        ]
        tables.append([[difference(a, b) for b in maps] for a in maps])
    table = torch.tensor(tables).mean(0)
    print("N    " + "".join(f"{n:6}" for n in STEPS), file=sys.stderr)
    for n, row in zip(STEPS, table.tolist()):
        print(f"{n:<5}" + "".join(f"{v:6.2f}" for v in row), file=sys.stderr)
    result = {
        "benchmark": "cameras_steps",
        "model": arguments.model,
        "sizes": arguments.sizes,
        "images": len(tables),
        "largest": round(float(table.max()), 3),
        "table": [[round(v, 3) for v in row] for row in table.tolist()],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
