"""Data sets: images with their classes and boxes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image

__all__ = ["Box", "Dataset", "Example"]


class Box(NamedTuple):
    """The bounding box of an object.

    Attributes:
        classes (tuple of int): Classes of the model that match the object.
        edges (tuple of float): x0, y0, x1, y1 in pixels of the upright image.
    """

    classes: tuple[int, ...]
    edges: tuple[float, float, float, float]


class Example(NamedTuple):
    """An image of a data set.

    Attributes:
        name (str): Unique name; a relative path with forward slashes.
        read (Callable): Function that opens the image, in upright RGB.
        labels (tuple of int): Correct classes; empty if unknown.
        boxes (tuple of Box): Boxes of objects of any class.
    """

    name: str
    read: Callable[[], Image.Image]
    labels: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()


class Dataset(NamedTuple):
    """A sequence of images.

    Attributes:
        source (str): Path or name of the data set.
        examples (tuple of Example): The images.
    """

    source: str
    examples: tuple[Example, ...]

    @property
    def has_labels(self) -> bool:
        """Whether every image has a label."""
        return all(example.labels for example in self.examples)

    @property
    def has_boxes(self) -> bool:
        """Whether any image has a box."""
        return any(example.boxes for example in self.examples)

    def require(
        self,
        annotations: Literal["labels", "boxes"],
        purpose: str,
        argument: str = "dataset",
    ) -> None:
        """Raise an error if labels or boxes are missing.

        Args:
            annotations (str): "labels" of every image, or "boxes" of any.
            purpose (str): What needs them, for the message.
            argument (str, optional): Name of the data set in the message.
                Default: "dataset"

        Raises:
            ValueError: If they are missing.
        """
        if annotations == "labels" and not self.has_labels:
            raise ValueError(
                f"{argument} must have labels for every image for {purpose}, got "
                f"images without labels in {self.source}."
            )
        if annotations == "boxes" and not self.has_boxes:
            raise ValueError(
                f"{argument} must have boxes for {purpose}, got none in {self.source}."
            )

    def first(self, n: int | None) -> "Dataset":
        """The first n images, or all if n is None."""
        return self._replace(examples=self.examples[:n])

    def sample(self, n: int | None, seed: int) -> "Dataset":
        """Sample images without replacement.

        Args:
            n (int, optional): Number of images.
            seed (int): Seed of the sample.

        Returns:
            *Dataset*: Images in random order, or the data set itself if it has no more
            than n.
        """
        if n is None or n >= len(self.examples):
            return self
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.examples), generator=generator)[:n]
        return self._replace(examples=tuple(self.examples[i] for i in order.tolist()))

    def describe(self) -> dict[str, Any]:
        """Source, number of images, and a digest of names, classes and boxes."""
        digest = hashlib.sha256()
        for name, _, labels, boxes in self.examples:
            digest.update(json.dumps([name, labels, boxes]).encode() + b"\n")
        return {
            "source": self.source,
            "images": len(self.examples),
            "sha256": digest.hexdigest(),
        }

    def check(self, n_classes: int) -> None:
        """Raise an error if the data set does not fit a model.

        Args:
            n_classes (int): Number of classes of the model.

        Raises:
            ValueError: If there is no image, a name is not a unique relative path, or
                a class is not a class of the model.
        """
        if not self.examples:
            raise ValueError(
                f"dataset must hold at least one image, got none in {self.source}."
            )
        seen = set()
        for example in self.examples:
            path = PurePosixPath(example.name)
            if example.name in seen or path.is_absolute() or ".." in path.parts:
                raise ValueError(
                    f"dataset must name images by different relative paths, got "
                    f"{example.name!r} in {self.source}."
                )
            seen.add(example.name)
            classes = {*example.labels, *(c for box in example.boxes for c in box[0])}
            wrong = [c for c in sorted(classes) if not 0 <= c < n_classes]
            if wrong:
                raise ValueError(
                    f"dataset must have classes from 0 to {n_classes - 1} as the "
                    f"model, got {wrong[0]} for {example.name!r} in {self.source}."
                )
