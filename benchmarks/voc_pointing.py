"""Pointing game on Pascal VOC: the accuracies "All" and "Difficult" of the papers.

One example is an image and a VOC class of an object in it that ImageNet has. Of the
ImageNet classes that count as this VOC class, the most probable one is explained,
whether or not the network predicts it. A hit is a highest pixel within 15 pixels of an
object of the class, after resizing and cropping.

"Difficult" is the papers' subset: the objects of the class cover less than a quarter of
the image, and there is an object of another class. "Marked" is another subset: all
objects of the class are marked as difficult in VOC's annotations, which is what the
detection benchmark leaves out.

Rows are written by ``captum_ext.evaluation.evaluate`` to the output folder, so that a
command that was stopped resumes. ``--report`` prints the table of the examples that are
complete so far, for runs that were not finished.
"""

import argparse
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import torch
from borex_tables import Remembering, without_gradients
from images import data_folder, load_network
from PIL import Image
from rows import markdown

from captum_ext.datasets import Box, Dataset, Example, read_class_map, read_voc
from captum_ext.evaluation import evaluate
from captum_ext.evaluation.run_folder import read_rows
from captum_ext.metrics import is_difficult
from captum_ext.zoo import ZooModel

METHODS: dict[str, dict[str, Any]] = {
    "grad-cam": {"use": "grad-cam"},
    "cameras": {"use": "cameras"},
    "rise": {"use": "rise", "n_masks": 200},
    "pn-rise": {"use": "pn-rise", "n_masks": 100},
    "borex": {"use": "borex", "n_iterations": 50, "prior": "none"},
    "borex-of-cameras": {"use": "borex", "n_iterations": 50, "prior": "cameras"},
    "random": {"use": "random"},
}
# VOC 2007 with networks trained on VOC, from the paper of CAMERAS: All, Difficult.
PAPER = {"CAMERAS, VGG16": (0.862, 0.762), "CAMERAS, ResNet-50": (0.942, 0.888)}
EVERY = ("All", "Difficult", "Marked")


def by_class(images: Dataset) -> Dataset:
    """One example per image and class, with all boxes of the class."""
    return images._replace(
        examples=tuple(
            Example(f"{example.name}/{c[0]}", example.read, c, boxes)
            for example in images.examples
            for c, boxes in boxes_by_class(example.boxes).items()
        )
    )


def boxes_by_class(boxes: Iterable[Box]) -> dict[tuple[int, ...], tuple[Box, ...]]:
    """Boxes by their classes, in the order of their first boxes."""
    found: dict[tuple[int, ...], tuple[Box, ...]] = {}
    for box in boxes:
        found[box.classes] = (*found.get(box.classes, ()), box)
    return found


def objects(file: Path) -> list[dict[str, Any]]:
    """Objects of an annotation: name, edges, and whether marked as difficult."""
    return [
        {
            "name": item.findtext("name", ""),
            "edges": [
                float(item.findtext(f"bndbox/{key}", "nan")) - (key in ("xmin", "ymin"))
                for key in ("xmin", "ymin", "xmax", "ymax")
            ],
            "marked": item.findtext("difficult") == "1",
        }
        for item in ElementTree.parse(file).getroot().findall("object")
    ]


def subsets(
    found: Iterable[Mapping[str, Any]], name: str, entry: ZooModel, image: Image.Image
) -> dict[str, bool]:
    """Whether an example belongs to each subset, after cropping.

    Args:
        found (iterable of Mapping): All objects of the image.
        name (str): The explained VOC class.
        entry (ZooModel): Network, whose preprocessing crops.
        image (PIL.Image.Image): The image.
    """
    size = image.height, image.width
    found = [*found]

    def cropped(chosen: list[Mapping[str, Any]]) -> torch.Tensor:
        edges = torch.tensor([item["edges"] for item in chosen]).reshape(-1, 4)
        return entry.preprocess.boxes(edges, size)  # type: ignore[union-attr]

    own = [item for item in found if item["name"] == name]
    other = [item for item in found if item["name"] != name]
    shown = entry.preprocess(image).shape[1:]
    difficult = is_difficult([cropped(own)], [cropped(other)], shown)
    return {
        "All": True,
        "Difficult": bool(difficult),
        "Marked": all(item["marked"] for item in own),
    }


def examples(entry: ZooModel, limit: int | None) -> Dataset:
    """Examples of the data folder; a limit draws images at random."""
    folder = data_folder() / "voc"
    classes = read_class_map(folder / "voc_to_imagenet.txt")
    found = by_class(read_voc(folder, entry.class_names, classes))
    chosen = list(found.examples)
    random.Random(0).shuffle(chosen)
    return found._replace(examples=tuple(chosen[:limit]))


def subset_table(entry: ZooModel, images: Dataset) -> pd.DataFrame:
    """Whether each example (the rows) belongs to each subset."""
    folder = data_folder() / "voc"
    classes = read_class_map(folder / "voc_to_imagenet.txt")
    names = {tuple(sorted(indices)): name for name, indices in classes.items()}
    rows = {}
    for example in images.examples:
        stem = Path(example.name.rpartition("/")[0]).stem
        rows[example.name] = subsets(
            objects(folder / "annotations" / f"{stem}.xml"),
            names[tuple(sorted(example.labels))],
            entry,
            example.read(),
        )
    return pd.DataFrame.from_dict(rows, orient="index")


def accuracies(hits: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Share of hits, by method (the rows) and subset, and the numbers of examples.

    Args:
        hits (DataFrame): 1 or 0 by example and method; without incomplete examples.
        members (DataFrame): Whether each example belongs to each subset.
    """
    inside = members.loc[hits.index]
    table = pd.DataFrame({name: hits[inside[name]].mean() for name in EVERY})
    table.loc["examples"] = inside[[*EVERY]].sum()
    return table


def complete_hits(folder: Path) -> pd.DataFrame:
    """Hits of the examples with a value for each method."""
    rows = [row for row in read_rows(folder).values() if row.method]
    values = {(row.image, row.method): row.value for row in rows}
    wide = pd.Series(values, dtype=float).unstack()
    return wide[[*METHODS]].dropna()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--limit", type=int, help="number of examples (default: all)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--report", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    entry = load_network(arguments.model)
    images = examples(entry, arguments.limit)
    if not arguments.report:
        model = Remembering(entry.model, without_gradients(entry)).eval()
        fast = entry._replace(model=model)
        evaluate(images, fast, METHODS, "pointing-game", arguments.output)
    hits = complete_hits(arguments.output)
    table = accuracies(hits, subset_table(entry, images))
    print(markdown(table.round(3).rename_axis("method")), "\n")
    result = {"benchmark": "voc_pointing", "model": arguments.model, "paper": PAPER}
    print(json.dumps(result | table.round(4).to_dict("index")))


if __name__ == "__main__":
    main()
