"""One reader for each layout that data sets come in.

Reading lists what there is; pictures are opened one by one when their turn comes.
"""

import contextlib
import io
from collections import defaultdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Iterable, Mapping, Sequence
from xml.etree import ElementTree

import pandas as pd
from PIL import Image, ImageOps
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder, VOCDetection
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.functional import to_pil_image

from captum_ext.evaluation.datasets import Box, Dataset, Example
from captum_ext.zoo import sign_scene

__all__ = [
    "ClassMap",
    "read_boxes",
    "read_class_folders",
    "read_class_map",
    "read_coco",
    "read_pictures",
    "read_signs",
    "read_voc",
]

ClassMap = Mapping[str, Sequence[int]]


def read_pictures(folder: str | Path) -> Dataset:
    """Pictures in a folder, of which nothing is known.

    They are turned upright as their camera says.

    Args:
        folder (str or Path): Picture files; what else is there is passed over.

    Returns:
        *Dataset*: In the order of their names.

    Raises:
        ValueError: If there is no such folder.
    """
    folder = _existing(folder)
    paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMG_EXTENSIONS]
    return Dataset(
        str(folder),
        tuple(Example(path.name, partial(_open_upright, path)) for path in paths),
    )


def read_class_folders(
    folder: str | Path, class_names: Sequence[str], class_map: ClassMap | None = None
) -> Dataset:
    """Pictures in one folder a class, as torchvision's ``ImageFolder`` has them.

    A folder is the class that it is named like, in upper or lower case. Where no
    folder is named like a class and there are as many folders as classes, they are the
    classes in their order.

    Args:
        folder (str or Path): Folders of pictures.
        class_names (sequence of str): Of the model.
        class_map (Mapping, optional): Classes by the name of a folder, of
            :func:`read_class_map`. Default: None (the model's own names)

    Returns:
        *Dataset*: With labels.

    Raises:
        ValueError: If there is no such folder, or the class of a folder is not known.
        OSError: If there is no picture in a folder.
    """
    folder = _existing(folder)
    found = ImageFolder(str(folder))
    known = _by_name(class_names, class_map)
    unknown = [name for name in found.classes if name.lower() not in known]
    if len(unknown) == len(found.classes) == len(class_names) and not class_map:
        known = {name.lower(): (i,) for i, name in enumerate(found.classes)}
    elif unknown:
        raise ValueError(
            f"dataset must have folders named like the model's classes, or as many as "
            f"it has, or a class map, got {unknown[0]!r} in {str(folder)!r}."
        )
    return Dataset(
        str(folder),
        tuple(
            Example(
                Path(path).relative_to(folder).as_posix(),
                partial(_open, Path(path)),
                known[found.classes[i].lower()],
            )
            for path, i in found.samples
        ),
    )


def read_boxes(file: str | Path, pictures: str | Path | None = None) -> Dataset:
    """Boxes in a table, one in a row.

    Args:
        file (str or Path): CSV with the columns image, class_index, x0, y0, x1, y1:
            edges in pixels of the picture. Further columns are passed over.
        pictures (str or Path, optional): Folder of the pictures.
            Default: None (``images`` beside the table)

    Returns:
        *Dataset*: With labels, the classes of a picture's boxes, in the table's order.

    Raises:
        ValueError: If a file is missing, or the table does not hold such boxes.
    """
    file = _existing(file, "file")
    folder = _existing(pictures or file.parent / "images")
    columns = {"image": str, "class_index": int} | dict.fromkeys(_EDGES, float)
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
        if not (x0 < x1 and y0 < y1):
            raise ValueError(
                f"dataset must have boxes with x0 < x1 and y0 < y1, got {edges} for "
                f"{image!r} in {str(file)!r}."
            )
        boxes[image].append(Box((label,), (x0, y0, x1, y1)))
    return Dataset(str(file), _annotated(boxes, folder))


_EDGES = ("x0", "y0", "x1", "y1")


def read_voc(
    folder: str | Path, class_names: Sequence[str], class_map: ClassMap | None = None
) -> Dataset:
    """Boxes in the XML format of Pascal VOC.

    Its pixels count from 1 and include the last one: the edges here are xmin - 1,
    ymin - 1, xmax, ymax. Objects of classes that the model does not know are passed
    over, and so are pictures that show no others.

    Args:
        folder (str or Path): ``images`` and ``annotations``, or ``JPEGImages`` and
            ``Annotations``, or one such folder as in torchvision's ``VOCdevkit``.
        class_names (sequence of str): Of the model.
        class_map (Mapping, optional): Classes by the name of an object, of
            :func:`read_class_map`. Default: None (the model's own names)

    Returns:
        *Dataset*: With labels, in the order of the XML files.

    Raises:
        ValueError: If there are no such folders, or a file is not in the format.
    """
    folder = _existing(folder)
    pictures, annotations = _voc_folders(folder)
    known = _by_name(class_names, class_map)
    boxes = defaultdict(list)
    for file in sorted(annotations.glob("*.xml")):
        try:
            content = VOCDetection.parse_voc_xml(ElementTree.parse(file).getroot())
            annotation = content["annotation"]
            name = PurePosixPath(annotation["filename"]).name
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
    return Dataset(str(folder), _annotated(boxes, pictures))


_VOC_EDGES = ("xmin", "ymin", "xmax", "ymax")


def _voc_folders(folder: Path) -> tuple[Path, Path]:
    roots = [folder, *folder.glob("VOC*"), *folder.glob("VOCdevkit/VOC*")]
    names = [("images", "annotations"), ("JPEGImages", "Annotations")]
    found = [
        (root / pictures, root / annotations)
        for root in roots
        for pictures, annotations in names
        if (root / pictures).is_dir() and (root / annotations).is_dir()
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
    pictures: str | Path | None = None,
) -> Dataset:
    """Boxes in the JSON format of COCO.

    Crowds and boxes without an area are passed over, objects of classes that the model
    does not know as well, and so are pictures that show no others.

    Args:
        file (str or Path): Such as ``instances_val2017.json``.
        class_names (sequence of str): Of the model.
        class_map (Mapping, optional): Classes by the name of a category, of
            :func:`read_class_map`. Default: None (the model's own names)
        pictures (str or Path, optional): Folder of the pictures.
            Default: None (``images`` beside the file)

    Returns:
        *Dataset*: With labels, in the order of COCO's numbers.

    Raises:
        ValueError: If a file is missing or not in the format.
    """
    file = _existing(file, "file")
    folder = _existing(pictures or file.parent / "images")
    known = _by_name(class_names, class_map)
    boxes = defaultdict(list)
    try:
        coco = _coco_index(file)
        for number in sorted(coco.imgs):
            name = coco.imgs[number]["file_name"]
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
    return Dataset(str(file), _annotated(boxes, folder))


def _coco_index(file: Path) -> COCO:
    # It prints how it gets on.
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


def read_signs(n: int = 100, seed: int = 0) -> Dataset:
    """The built-in road-sign scenes, with the boxes of their signs.

    Args:
        n (int, optional): Number of scenes. Default: 100
        seed (int, optional): Of the first scene. Default: 0

    Returns:
        *Dataset*: With labels.

    Raises:
        ValueError: If a seed is out of the range of
            :func:`~captum_ext.zoo.sign_scene`.

    Examples::

        >>> example = read_signs(3).examples[1]
        >>> example.name, example.labels, example.read().size
        ('scene-1', (8,), (96, 96))
    """
    examples = []
    for number in range(seed, seed + n):
        scene = sign_scene(number)
        boxes = tuple(Box((item.label,), item.box) for item in scene.objects)
        draw = partial(_draw_scene, number)
        examples.append(Example(f"scene-{number}", draw, (scene.label,), boxes))
    return Dataset("signs", tuple(examples))


def _draw_scene(seed: int) -> Image.Image:
    return to_pil_image(sign_scene(seed).picture)


def read_class_map(file: str | Path) -> dict[str, tuple[int, ...]]:
    """Which classes of the model count as a class of the data set.

    Args:
        file (str or Path): Text with one class of the model in a line, its number and
            the name in the data set: ``404 aeroplane``. Several may have one name.

    Returns:
        *dict*: Numbers by name.

    Raises:
        ValueError: If there is no such file, or a line is something else.
    """
    file = _existing(file, "file")
    numbers = defaultdict(list)
    for line in filter(None, map(str.strip, file.read_text().splitlines())):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name:
            raise ValueError(
                f"class map must have lines of a number and a name, got {line!r} in "
                f"{str(file)!r}."
            )
        numbers[name.strip()].append(int(number))
    return {name: tuple(each) for name, each in numbers.items()}


def _by_name(
    class_names: Sequence[str], class_map: ClassMap | None
) -> dict[str, tuple[int, ...]]:
    """Classes by their name in lower case; several of one name all count."""
    if class_map is not None:
        return {name.lower(): tuple(each) for name, each in class_map.items()}
    known = defaultdict(list)
    for i, name in enumerate(class_names):
        known[name.lower()].append(i)
    return {name: tuple(each) for name, each in known.items()}


def _annotated(
    boxes: Mapping[str, Iterable[Box]], pictures: Path
) -> tuple[Example, ...]:
    examples = []
    for name, each in boxes.items():
        labels = sorted({c for box in each for c in box.classes})
        read = partial(_open, pictures / name)
        examples.append(Example(name, read, tuple(labels), tuple(each)))
    return tuple(examples)


def _check_known(boxes: Mapping[str, object], source: Path) -> None:
    if not boxes:
        raise ValueError(
            f"dataset must show objects named like the model's classes, or like those "
            f"of a class map, got none in {str(source)!r}."
        )


def _existing(path: str | Path, kind: str = "folder") -> Path:
    path = Path(path).resolve()
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise ValueError(f"dataset must be an existing {kind}, got {str(path)!r}.")
    return path


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _open_upright(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
