"""A data set in words, KIND or KIND:PATH: which reader is meant."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from captum_ext.datasets.annotations import read_boxes, read_coco, read_voc
from captum_ext.datasets.class_map import ClassMap
from captum_ext.datasets.dataset import Dataset
from captum_ext.datasets.readers import (
    read_arrays,
    read_class_folders,
    read_images,
    read_signs,
)

__all__ = ["LAYOUTS", "Layout", "Source", "describe_layouts", "find_layout"]


class Source(NamedTuple):
    """What a data set is read from.

    Attributes:
        path (str): Behind the colon; empty where there is none.
        class_names (sequence of str): Of the model.
        class_map (Mapping, optional): Classes by their name in the data set.
        images (str, optional): Folder of the images.
        scenes (range): Seeds of built-in scenes.
    """

    path: str
    class_names: Sequence[str]
    class_map: ClassMap | None = None
    images: str | None = None
    scenes: range = range(100)


class Layout(NamedTuple):
    """A layout of data sets.

    Attributes:
        usage (str): How it is asked for.
        summary (str): What there is.
        read (Callable): The data set of a :class:`Source`.
        takes (frozenset of str): Which of "classes" and "images" it makes use of.
    """

    usage: str
    summary: str
    read: Callable[[Source], Dataset]
    takes: frozenset[str] = frozenset()


LAYOUTS = {
    "signs": Layout(
        "signs",
        "the built-in road-sign scenes, as many as --limit says",
        lambda source: read_signs(len(source.scenes), source.scenes.start),
    ),
    "images": Layout(
        "images:FOLDER",
        "image files; nothing is known of them",
        lambda source: read_images(source.path),
    ),
    "folders": Layout(
        "folders:FOLDER|ZIP",
        "one folder of images a class (ImageFolder), maybe packed",
        lambda source: read_class_folders(
            source.path, source.class_names, source.class_map
        ),
        frozenset(["classes"]),
    ),
    "arrays": Layout(
        "arrays:FILE.npz",
        "images (N, H, W, 3) of bytes, labels (N,), maybe boxes (N, 4)",
        lambda source: read_arrays(source.path),
    ),
    "boxes": Layout(
        "boxes:FILE.csv",
        "columns image, class_index, x0, y0, x1, y1; images in images/ beside it",
        lambda source: read_boxes(source.path, source.images),
        frozenset(["images"]),
    ),
    "voc": Layout(
        "voc:FOLDER",
        "Pascal VOC's XML: images/ and annotations/, or a VOCdevkit",
        lambda source: read_voc(source.path, source.class_names, source.class_map),
        frozenset(["classes"]),
    ),
    "coco": Layout(
        "coco:FILE.json",
        "COCO's JSON; images in images/ beside it",
        lambda source: read_coco(
            source.path, source.class_names, source.class_map, source.images
        ),
        frozenset(["classes", "images"]),
    ),
}
"""The layouts of data sets by the names that the command line knows them by."""


def describe_layouts() -> str:
    """A line for each layout, as commands print them."""
    return "\n".join(f"  {kind.usage:22}{kind.summary}" for kind in LAYOUTS.values())


def find_layout(words: str, argument: str = "dataset") -> tuple[Layout, str]:
    """The layout that is meant, and the path.

    Args:
        words (str): KIND or KIND:PATH.
        argument (str, optional): As it stands in the error. Default: "dataset"

    Returns:
        *tuple[Layout, str]*: The path is empty for a kind without one.

    Raises:
        ValueError: If there is no such kind, or a path where it has none, or the other
            way round.

    Examples::

        >>> layout, path = find_layout("voc:VOCdevkit")
        >>> layout.usage, path
        ('voc:FOLDER', 'VOCdevkit')
    """
    name, _, path = words.partition(":")
    if name not in LAYOUTS or bool(path) != (":" in LAYOUTS[name].usage):
        usages = ", ".join(kind.usage for kind in LAYOUTS.values())
        raise ValueError(f"--{argument} must be one of {usages}, got {words!r}.")
    return LAYOUTS[name], path
