"""Real pictures and networks of the data folder, for the benchmarks."""

import csv
import os
from pathlib import Path
from typing import Iterator, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from captum_ext import zoo

__all__ = ["LabelledPicture", "data_folder", "labelled_pictures", "load_network"]


class LabelledPicture(NamedTuple):
    """A preprocessed ImageNet picture (1, 3, H, W) with its class."""

    name: str
    inputs: Tensor
    label: int


def data_folder() -> Path:
    """The folder that CAPTUM_EXT_DATA names."""
    if "CAPTUM_EXT_DATA" not in os.environ:
        raise SystemExit("CAPTUM_EXT_DATA must name the data folder.")
    return Path(os.environ["CAPTUM_EXT_DATA"])


def load_network(name: str) -> zoo.ZooModel:
    """An ImageNet classifier of the data folder, in channels_last."""
    entry = zoo.load(name, data_folder() / "models" / f"{name}.pt")
    return entry._replace(model=entry.model.to(memory_format=torch.channels_last))


def labelled_pictures(entry: zoo.ZooModel) -> Iterator[LabelledPicture]:
    """The folder's ImageNet validation pictures in the order of their numbers."""
    folder = data_folder() / "imagenet"
    with open(folder / "boxes.csv", newline="") as file:
        labels = {row["image"]: int(row["class_index"]) for row in csv.DictReader(file)}
    for name in sorted(labels):
        path = next((folder / "images").glob(f"{Path(name).stem}.*"))
        inputs = entry.preprocess(Image.open(path))[None]
        yield LabelledPicture(
            path.stem,
            inputs.contiguous(memory_format=torch.channels_last),
            labels[name],
        )
