"""What is evaluated on: images, and their classes and boxes where these are known."""

import hashlib
import json
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import torch
from PIL import Image

__all__ = ["Box", "Dataset", "Example"]


class Box(NamedTuple):
    """An object of an image.

    Attributes:
        classes (tuple of int): Classes of the model that count as the object's.
        edges (tuple of float): x0, y0, x1, y1 in pixels of the image.
    """

    classes: tuple[int, ...]
    edges: tuple[float, float, float, float]


class Example(NamedTuple):
    """An image of a data set.

    Attributes:
        name (str): Unique; a relative path with slashes.
        read (Callable): Opens the image, in RGB.
        labels (tuple of int): Classes that are right; empty if none is known.
        boxes (tuple of Box): Objects, of whatever class.
    """

    name: str
    read: Callable[[], Image.Image]
    labels: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()


class Dataset(NamedTuple):
    """Images in their order.

    Attributes:
        source (str): Where they come from.
        examples (tuple of Example): The images.
    """

    source: str
    examples: tuple[Example, ...]

    @property
    def has_labels(self) -> bool:
        """Whether the class of every image is known."""
        return all(example.labels for example in self.examples)

    @property
    def has_boxes(self) -> bool:
        """Whether objects are known."""
        return any(example.boxes for example in self.examples)

    def first(self, n: int | None) -> "Dataset":
        """The first n images, or all."""
        return self._replace(examples=self.examples[:n])

    def draw(self, n: int | None, seed: int) -> "Dataset":
        """Images at random, of all classes where these are sorted, or all.

        Args:
            n (int, optional): How many.
            seed (int): Of what is drawn.

        Returns:
            *Dataset*: In random order, or as it is where there are no more than n.
        """
        if n is None or n >= len(self.examples):
            return self
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.examples), generator=generator)[:n]
        return self._replace(examples=tuple(self.examples[i] for i in order.tolist()))

    def describe(self) -> dict[str, Any]:
        """What tells it from others: where it is, names, classes and boxes."""
        digest = hashlib.sha256()
        for name, _, labels, boxes in self.examples:
            digest.update(json.dumps([name, labels, boxes]).encode() + b"\n")
        return {
            "source": self.source,
            "images": len(self.examples),
            "sha256": digest.hexdigest(),
        }

    def check(self, n_classes: int) -> None:
        """Refuse what cannot be evaluated.

        Args:
            n_classes (int): Of the model.

        Raises:
            ValueError: If there is no image, a name is no relative path or not
                unique, or a class is none of the model's.
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
