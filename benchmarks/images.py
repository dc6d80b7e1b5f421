"""Images and networks of the data folder for the benchmarks."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas
import torch
from PIL import Image
from torch import Tensor

from captum_ext import zoo

__all__ = ["LabeledImage", "data_folder", "labeled_images", "load_network"]


class LabeledImage(NamedTuple):
    """Preprocessed ImageNet image (1, 3, H, W) with its class and boxes.

    Boxes (N, 4) are x0 y0 x1 y1 in its pixels, without those that cropping removed.
    """

    name: str
    inputs: Tensor
    label: int
    boxes: Tensor


def data_folder() -> Path:
    """Folder named by CAPTUM_EXT_DATA."""
    if "CAPTUM_EXT_DATA" not in os.environ:
        raise SystemExit("CAPTUM_EXT_DATA must name the data folder.")
    return Path(os.environ["CAPTUM_EXT_DATA"])


def load_network(name: str) -> zoo.ZooModel:
    """Trained classifier of the data folder, in channels_last."""
    file = "cifar10_resnet20.th" if name == "resnet20" else f"{name}.pt"
    entry = zoo.load(name, data_folder() / "models" / file)
    return entry._replace(model=entry.model.to(memory_format=torch.channels_last))


def labeled_images(entry: zoo.ZooModel) -> Iterator[LabeledImage]:
    """ImageNet validation images of the data folder, ordered by number."""
    folder = data_folder() / "imagenet"
    rows = pandas.read_csv(folder / "boxes.csv").groupby("image")
    for name, objects in rows:
        path = next((folder / "images").glob(f"{Path(name).stem}.*"))
        image = Image.open(path)
        inputs = entry.preprocess(image)[None]
        boxes = torch.tensor(objects[["x0", "y0", "x1", "y1"]].to_numpy())
        yield LabeledImage(
            path.stem,
            inputs.contiguous(memory_format=torch.channels_last),
            int(objects.class_index.iloc[0]),
            entry.preprocess.boxes(boxes, (image.height, image.width)),
        )
