"""Confidence of several networks under one map: Figure 8 of the supplement of CAMERAS.

Images that all networks classify correctly are multiplied by a map of one of them, in
[0, 1], so that the mean color shows where the map is 0, and every network is asked for
the probability of the class. If networks look at the same features, what one map keeps
gives them similar confidence.

Prints, by method and by the network of the map, the mean confidence of each network,
the mean absolute difference and the correlation of two networks' confidences over the
images, and the mean correlation of the maps of two networks. "whole image" is the
confidence without a map, and a map moved by half of the image in both directions, which
keeps as much but not the same, is the control.

Rows are appended to the output file; a command that was stopped resumes. ``--report``
prints the table.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import pandas as pd
import torch
from attacks import Classifier
from captum.attr import LayerGradCam
from images import LabeledImage, labeled_images, load_network
from rows import RowFile, markdown, read_rows, row_parser
from torch import Tensor, nn

from captum_ext.attr import LayerCAMERAS, last_map_layer
from captum_ext.metrics.pixel_maps import spatial_maps, unit_maps

NETWORKS = ("mobilenet_v2", "squeezenet1_0")


def grad_cam(model: nn.Module, layer: nn.Module, x: Tensor, target: int) -> Tensor:
    return LayerGradCam(model, layer).attribute(x, target, relu_attributions=True)


def cameras(model: nn.Module, layer: nn.Module, x: Tensor, target: int) -> Tensor:
    return LayerCAMERAS(model, layer).attribute(x, target)


METHODS: dict[str, Callable[[nn.Module, nn.Module, Tensor, int], Tensor]] = {
    "CAMERAS": cameras,
    "Grad-CAM": grad_cam,
}


def moved(S: Tensor) -> Tensor:
    """The map (..., H, W) moved around by half of its size along both axes."""
    height, width = S.shape[-2:]
    return S.roll((height // 2, width // 2), (-2, -1))


@torch.no_grad()
def confidences(
    networks: Mapping[str, nn.Module], x: Tensor, target: int
) -> dict[str, float]:
    return {
        name: round(float(network(x)[0, target]), 5)
        for name, network in networks.items()
    }


def right_for_all(
    networks: Mapping[str, nn.Module], images: Iterator[LabeledImage]
) -> Iterator[LabeledImage]:
    for image in images:
        with torch.no_grad():
            predicted = {int(f(image.inputs).argmax()) for f in networks.values()}
        if predicted == {image.label}:
            yield image


def rows_of(
    networks: Mapping[str, Classifier],
    layers: Mapping[str, nn.Module],
    image: LabeledImage,
) -> list[dict[str, Any]]:
    """Confidences under each map, and how similar the networks' maps are."""
    x, target = image.inputs, image.label
    whole = {"method": "whole image", "of": ""} | confidences(networks, x, target)
    rows: list[dict[str, Any]] = [whole]
    for method, explain in METHODS.items():
        maps = {}
        for name, network in networks.items():
            found = explain(network.model, layers[name], x, target).detach()
            S = unit_maps(spatial_maps(found, x))[:, None].to(x)
            maps[name] = S
            for control, each in (("", S), (", moved", moved(S))):
                given = {"method": method + control, "of": name}
                rows.append(given | confidences(networks, x * each, target))
        flat = [S.flatten() for S in maps.values()]
        similar = [torch.corrcoef(torch.stack(p))[0, 1] for p in combinations(flat, 2)]
        for row in rows[-2 * len(networks) :]:
            row["similarity"] = float(torch.stack(similar).mean())
    return rows


def run(arguments: argparse.Namespace) -> None:
    """Append the rows that the output file lacks."""
    file = RowFile(arguments.output, ("image", "method", "of"))
    entries = {name: load_network(name) for name in NETWORKS}
    networks = {name: Classifier(e.model).eval() for name, e in entries.items()}
    # Both have the same preprocessing.
    images = labeled_images(entries[NETWORKS[0]])
    example = next(labeled_images(entries[NETWORKS[0]])).inputs
    layers = {n: last_map_layer(e.model, example)[1] for n, e in entries.items()}
    for i, image in enumerate(right_for_all(networks, images)):
        if i == arguments.n_images:
            break
        if not file.has(image.name, f"{[*METHODS][-1]}, moved", NETWORKS[-1]):
            for row in rows_of(networks, layers, image):
                file.append({"image": image.name} | row)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over images, and agreement of the first two networks."""
    lines = []
    for (method, of), group in rows.groupby(["method", "of"], sort=False):
        one, two = (group[name] for name in NETWORKS)
        lines.append(
            {
                "map": method,
                "of": of,
                **{name: group[name].mean() for name in NETWORKS},
                "difference": (one - two).abs().mean(),
                "correlation": one.corr(two),
                "similarity of maps": group.get("similarity", pd.Series()).mean(),
                "images": len(group),
            }
        )
    return pd.DataFrame(lines).set_index("map")


def main() -> None:
    parser = row_parser(__doc__.split("\n")[0], 100)
    arguments = parser.parse_args()
    if not arguments.report:
        run(arguments)
    rows = pd.DataFrame(read_rows(arguments.output)).fillna({"of": ""})
    found = table(rows.drop_duplicates(["image", "method", "of"]))
    print(markdown(found.round(3).astype(object).fillna("")), "\n")
    lines = found.reset_index().round(4).astype(object).fillna("").to_dict("records")
    print(json.dumps({"benchmark": "confidences", "rows": lines}))


if __name__ == "__main__":
    main()
