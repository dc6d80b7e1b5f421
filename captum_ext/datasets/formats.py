"""Formats of data sets, named on the command line as KIND or KIND:PATH."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from captum_ext._suggestions import did_you_mean
from captum_ext.datasets.annotations import read_boxes, read_coco, read_voc
from captum_ext.datasets.class_map import ClassMap
from captum_ext.datasets.dataset import Dataset
from captum_ext.datasets.readers import (
    read_arrays,
    read_class_folders,
    read_images,
    read_signs,
)
from captum_ext.zoo.signs import SIGN_CLASSES

__all__ = [
    "DATASET_FORMATS",
    "DatasetFormat",
    "DatasetSource",
    "describe_formats",
    "find_format",
]


class DatasetSource(NamedTuple):
    """The arguments of a reader.

    Attributes:
        path (str): Path after the colon; empty for a format without one.
        class_names (sequence of str): Class names of the model.
        class_map (Mapping, optional): Classes of the model by name in the data set.
        images (str, optional): Folder of the images.
        scenes (range): Seeds of the built-in scenes.
    """

    path: str
    class_names: Sequence[str]
    class_map: ClassMap | None = None
    images: str | None = None
    scenes: range = range(100)


class DatasetFormat(NamedTuple):
    """A format of data sets.

    Attributes:
        usage (str): How the command line names it.
        summary (str): What the files contain.
        read (Callable): Function from a :class:`DatasetSource` to a data set.
        takes (frozenset of str): Options that the reader uses, "classes" and "images".
    """

    usage: str
    summary: str
    read: Callable[[DatasetSource], Dataset]
    takes: frozenset[str] = frozenset()


def _read_signs(source: DatasetSource) -> Dataset:
    """The built-in scenes, whose labels mean nothing to a model of other classes."""
    n_classes = len(source.class_names)
    if n_classes != len(SIGN_CLASSES):
        raise ValueError(
            f"the data set signs must go with a model of its {len(SIGN_CLASSES)} "
            f"classes, such as --model signs, got a model of {n_classes}."
        )
    return read_signs(len(source.scenes), source.scenes.start)


DATASET_FORMATS = {
    "signs": DatasetFormat(
        "signs",
        "the built-in road-sign scenes, --limit of them",
        _read_signs,
    ),
    "images": DatasetFormat(
        "images:FOLDER",
        "image files without labels or boxes",
        lambda source: read_images(source.path),
    ),
    "folders": DatasetFormat(
        "folders:FOLDER|ZIP",
        "one folder of images per class (ImageFolder), zipped or not",
        lambda source: read_class_folders(
            source.path, source.class_names, source.class_map
        ),
        frozenset(["classes"]),
    ),
    "arrays": DatasetFormat(
        "arrays:FILE.npz",
        "images (N, H, W, 3) of bytes, labels (N,), optional boxes (N, 4)",
        lambda source: read_arrays(source.path),
    ),
    "boxes": DatasetFormat(
        "boxes:FILE.csv",
        "columns image, class_index, x0, y0, x1, y1; images in images/ next to it",
        lambda source: read_boxes(source.path, source.images),
        frozenset(["images"]),
    ),
    "voc": DatasetFormat(
        "voc:FOLDER",
        "Pascal VOC's XML: images/ and annotations/, or a VOCdevkit",
        lambda source: read_voc(source.path, source.class_names, source.class_map),
        frozenset(["classes"]),
    ),
    "coco": DatasetFormat(
        "coco:FILE.json",
        "COCO's JSON; images in images/ next to it",
        lambda source: read_coco(
            source.path, source.class_names, source.class_map, source.images
        ),
        frozenset(["classes", "images"]),
    ),
}
"""Formats of data sets by their names on the command line."""


def describe_formats() -> str:
    """One line per format, for the help of commands."""
    return "\n".join(f"  {f.usage:22}{f.summary}" for f in DATASET_FORMATS.values())


def find_format(text: str, argument: str = "dataset") -> tuple[DatasetFormat, str]:
    """Split the description of a data set into its format and path.

    Args:
        text (str): KIND or KIND:PATH.
        argument (str, optional): Name of the option in the message.
            Default: "dataset"

    Returns:
        *tuple[DatasetFormat, str]*: Format and path, which is empty for a format
        without one.

    Raises:
        ValueError: If the format is unknown, or has a path where it takes none, or
            lacks one.

    Examples::

        >>> dataset_format, path = find_format("voc:VOCdevkit")
        >>> dataset_format.usage, path
        ('voc:FOLDER', 'VOCdevkit')
    """
    name, _, path = text.partition(":")
    found = DATASET_FORMATS.get(name)
    if found is None:
        usages = ", ".join(known.usage for known in DATASET_FORMATS.values())
        hint = did_you_mean(name, DATASET_FORMATS)
        known = f"of a known kind{hint}" if hint else f"one of {usages}"
        raise ValueError(f"--{argument} must be {known}, got {text!r}.")
    if bool(path) != (":" in found.usage):
        raise ValueError(f"--{argument} must be {found.usage}, got {text!r}.")
    return found, path
