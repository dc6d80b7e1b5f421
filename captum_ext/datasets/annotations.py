"""Readers of data sets with boxes: CSV tables, Pascal VOC's XML and COCO's JSON.

Boxes are in the pixels of the file as stored, as pycocotools and VOC's tools count, or
in those of the upright image if the width and height in the annotation say so. Readers
turn them upright together with the image, so they read the header of each image; its
pixels are read when it is used.
"""

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from PIL import ExifTags, Image
from torchvision.datasets import VOCDetection

from captum_ext._extras import extra
from captum_ext.datasets.class_map import ClassMap, classes_by_name
from captum_ext.datasets.dataset import Box, Dataset, Example
from captum_ext.datasets.image_files import existing_path, open_image

if TYPE_CHECKING:
    from pycocotools.coco import COCO

__all__ = ["read_boxes", "read_coco", "read_voc"]

_Size = tuple[int, int]
_Edges = tuple[float, float, float, float]

_CSV_EDGES = ("x0", "y0", "x1", "y1")
_VOC_EDGES = ("xmin", "ymin", "xmax", "ymax")

# EXIF orientations by what makes them upright: mirroring along an axis, and then
# exchanging the axes.
_MIRRORED_X, _MIRRORED_Y, _TRANSPOSED = (2, 3, 7, 8), (3, 4, 6, 7), (5, 6, 7, 8)


def read_boxes(file: str | Path, images: str | Path | None = None) -> Dataset:
    """Read boxes from a CSV table with one box per row.

    Args:
        file (str or Path): CSV file with the columns image, class_index, x0, y0, x1,
            y1: edges in pixels of the file, before its EXIF orientation is applied.
            Other columns are ignored.
        images (str or Path, optional): Folder of the images.
            Default: None (``images`` next to the table)

    Returns:
        *Dataset*: Images in the table's order. The labels of an image are the classes
        of its boxes.

    Raises:
        ValueError: If a path does not exist, or the table has another form.
        ModuleNotFoundError: If the extra ``evaluation`` is not installed.
    """
    with extra("evaluation"):
        import pandas as pd
    file = existing_path(file, "file")
    folder = existing_path(images or file.parent / "images")
    columns = {"image": str, "class_index": int} | dict.fromkeys(_CSV_EDGES, float)
    try:
        table = pd.read_csv(
            file, usecols=[*columns], dtype=columns, keep_default_na=False
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(
            f"dataset must be a table with columns {', '.join(columns)}, got "
            f"{str(file)!r} ({error})."
        ) from error
    boxes = defaultdict(list)
    for image, label, *edges in table[[*columns]].itertuples(index=False):
        x0, y0, x1, y1 = edges
        boxes[image].append(Box((label,), (x0, y0, x1, y1)))
    return Dataset(str(file), _annotated(boxes, folder, {}))


def read_voc(
    folder: str | Path, class_names: Sequence[str], class_map: ClassMap | None = None
) -> Dataset:
    """Read boxes from Pascal VOC's XML files.

    VOC counts pixels from 1 and includes the last one: the edges here are xmin - 1,
    ymin - 1, xmax, ymax. Objects whose class the model does not have are ignored, and
    so are images without other objects.

    Args:
        folder (str or Path): Folder with ``images`` and ``annotations``, or
            ``JPEGImages`` and ``Annotations``, or the parent of one such folder, as in
            torchvision's ``VOCdevkit``.
        class_names (sequence of str): Class names of the model.
        class_map (Mapping, optional): Classes of the model by the name of an object,
            see :func:`read_class_map`. Default: None (the model's class names)

    Returns:
        *Dataset*: Images with labels, in the order of the XML files.

    Raises:
        ValueError: If the folders do not exist, or a file has another format.
    """
    folder = existing_path(folder)
    images, annotations = _voc_folders(folder)
    known = classes_by_name(class_names, class_map)
    boxes, sizes = defaultdict(list), {}
    for file in sorted(annotations.glob("*.xml")):
        try:
            content = VOCDetection.parse_voc_xml(ElementTree.parse(file).getroot())
            annotation = content["annotation"]
            name = PurePosixPath(annotation["filename"]).name
            sizes[name] = _size(annotation.get("size") or {})
            for item in annotation.get("object", ()):
                x0, y0, x1, y1 = (float(item["bndbox"][key]) for key in _VOC_EDGES)
                classes = known.get(item["name"].lower())
                if classes:
                    boxes[name].append(Box(classes, (x0 - 1, y0 - 1, x1, y1)))
        except (ElementTree.ParseError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"dataset must have annotations in the format of Pascal VOC, got "
                f"{str(file)!r} ({type(error).__name__}: {error})."
            ) from error
    _check_known(boxes, folder)
    return Dataset(str(folder), _annotated(boxes, images, sizes))


def _voc_folders(folder: Path) -> tuple[Path, Path]:
    roots = [folder, *folder.glob("VOC*"), *folder.glob("VOCdevkit/VOC*")]
    names = [("images", "annotations"), ("JPEGImages", "Annotations")]
    found = [
        (root / images, root / annotations)
        for root in roots
        for images, annotations in names
        if (root / images).is_dir() and (root / annotations).is_dir()
    ]
    if len(found) != 1:
        raise ValueError(
            f"dataset must be one folder with images and annotations, or JPEGImages "
            f"and Annotations, got {len(found) or 'none'} in {str(folder)!r}."
        )
    return found[0]


def read_coco(
    file: str | Path,
    class_names: Sequence[str],
    class_map: ClassMap | None = None,
    images: str | Path | None = None,
) -> Dataset:
    """Read boxes from COCO's JSON format.

    Crowds, boxes without an area and objects whose class the model does not have are
    ignored, and so are images without other objects.

    Args:
        file (str or Path): File such as ``instances_val2017.json``.
        class_names (sequence of str): Class names of the model.
        class_map (Mapping, optional): Classes of the model by the name of a category,
            see :func:`read_class_map`. Default: None (the model's class names)
        images (str or Path, optional): Folder of the images.
            Default: None (``images`` next to the file)

    Returns:
        *Dataset*: Images with labels, in the order of COCO's image ids.

    Raises:
        ValueError: If a path does not exist, or the file has another format.
        ModuleNotFoundError: If the extra ``evaluation`` is not installed.
    """
    file = existing_path(file, "file")
    folder = existing_path(images or file.parent / "images")
    known = classes_by_name(class_names, class_map)
    boxes, sizes = defaultdict(list), {}
    try:
        coco = _coco_index(file)
        for number in sorted(coco.imgs):
            name = coco.imgs[number]["file_name"]
            sizes[name] = _size(coco.imgs[number])
            for item in coco.loadAnns(coco.getAnnIds([number], iscrowd=False)):
                x, y, width, height = map(float, item["bbox"])
                category = coco.cats[item["category_id"]]["name"]
                classes = known.get(category.lower())
                if classes and width > 0 and height > 0:
                    boxes[name].append(Box(classes, (x, y, x + width, y + height)))
    except (
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"dataset must be in the JSON format of COCO, got {str(file)!r} "
            f"({type(error).__name__}: {error})."
        ) from error
    _check_known(boxes, file)
    return Dataset(str(file), _annotated(boxes, folder, sizes))


def _coco_index(file: Path) -> "COCO":
    with extra("evaluation"):
        from pycocotools.coco import COCO
    # COCO prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


def _size(annotation: Mapping[str, Any]) -> _Size | None:
    """Width and height that an annotation gives, if it does."""
    width, height = (
        int(float(annotation.get(key) or 0)) for key in ("width", "height")
    )
    return (width, height) if width and height else None


def _annotated(
    boxes: Mapping[str, Iterable[Box]], images: Path, sizes: Mapping[str, _Size | None]
) -> tuple[Example, ...]:
    examples = []
    for name, each in boxes.items():
        for box in each:
            x0, y0, x1, y1 = box.edges
            if not (all(map(math.isfinite, box.edges)) and x0 < x1 and y0 < y1):
                raise ValueError(
                    f"dataset must have boxes of finite x0 < x1 and y0 < y1, got "
                    f"{list(box.edges)} for {str(images / name)!r}."
                )
        labels = sorted({c for box in each for c in box.classes})
        read = partial(open_image, images / name)
        upright = _upright(each, images / name, sizes.get(name))
        examples.append(Example(name, read, tuple(labels), upright))
    return tuple(examples)


def _upright(
    boxes: Iterable[Box], file: Path, annotated: _Size | None
) -> tuple[Box, ...]:
    """Boxes in pixels of the image as it is read.

    ``annotated`` is the width and height of the image in which they were drawn.
    """
    try:
        with Image.open(file) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            stored = image.size
            # Pillow gives the upright size of this format.
            if image.format == "TIFF" and orientation in _TRANSPOSED:
                stored = stored[::-1]
    except OSError:
        # The image is an error when it is used.
        return tuple(boxes)
    upright = stored[::-1] if orientation in _TRANSPOSED else stored
    if annotated not in (None, stored, upright):
        raise ValueError(
            f"dataset must have boxes in pixels of its images, got boxes in an image "
            f"of {annotated[0]} x {annotated[1]} pixels for {str(file)!r} of "
            f"{stored[0]} x {stored[1]}."
        )
    if annotated not in (None, stored):
        return tuple(boxes)
    return tuple(
        box._replace(edges=_turned(box.edges, stored, orientation)) for box in boxes
    )


def _turned(edges: _Edges, size: _Size, orientation: int) -> _Edges:
    """Edges x0, y0, x1, y1 in the upright image."""
    x0, y0, x1, y1 = edges
    width, height = size
    if orientation in _MIRRORED_X:
        x0, x1 = width - x1, width - x0
    if orientation in _MIRRORED_Y:
        y0, y1 = height - y1, height - y0
    return (y0, x0, y1, x1) if orientation in _TRANSPOSED else (x0, y0, x1, y1)


def _check_known(boxes: Mapping[str, object], source: Path) -> None:
    if not boxes:
        raise ValueError(
            f"dataset must show objects named like classes of the model or of a class "
            f"map, got none in {str(source)!r}."
        )
