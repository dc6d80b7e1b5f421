"""Readers of data sets without annotation files: folders, archives, arrays, signs.

Readers only list the images; each image file is opened when it is used.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.functional import to_pil_image

from captum_ext.datasets.class_map import ClassMap, classes_by_name
from captum_ext.datasets.dataset import Box, Dataset, Example
from captum_ext.datasets.image_files import (
    existing_path,
    images_in_archive,
    images_in_folders,
    open_image,
)
from captum_ext.zoo import sign_scene

__all__ = ["read_arrays", "read_class_folders", "read_images", "read_signs"]


def read_images(folder: str | Path) -> Dataset:
    """Read images in a folder, without labels or boxes.

    Args:
        folder (str or Path): Folder of image files; other files are ignored.

    Returns:
        *Dataset*: Images sorted by name.

    Raises:
        ValueError: If the folder does not exist.
    """
    folder = existing_path(folder)
    paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMG_EXTENSIONS]
    return Dataset(
        str(folder),
        tuple(Example(path.name, partial(open_image, path)) for path in paths),
    )


def read_class_folders(
    folder: str | Path, class_names: Sequence[str], class_map: ClassMap | None = None
) -> Dataset:
    """Read images in one folder per class, as torchvision's ``ImageFolder`` does.

    A folder holds the class of the same name, ignoring case. If no folder is named
    like a class and there are as many folders as classes, the sorted folders are the
    classes in their order.

    Args:
        folder (str or Path): Folder with one folder per class, or a ZIP file of them.
        class_names (sequence of str): Class names of the model.
        class_map (Mapping, optional): Classes of the model by the name of a folder,
            see :func:`read_class_map`. Default: None (the model's class names)

    Returns:
        *Dataset*: Images with labels.

    Raises:
        ValueError: If the path does not exist, or the class of a folder is unknown.
        OSError: If a folder contains no image.
    """
    packed = Path(folder).suffix.lower() == ".zip"
    source = existing_path(folder, "file" if packed else "folder")
    found = images_in_archive(source) if packed else images_in_folders(source)
    folders = sorted({image.folder for image in found})
    known = classes_by_name(class_names, class_map)
    unknown = [name for name in folders if name.lower() not in known]
    if len(unknown) == len(folders) == len(class_names) and not class_map:
        known = {name.lower(): (i,) for i, name in enumerate(folders)}
    elif unknown:
        raise ValueError(
            f"dataset must have folders named like classes of the model or of a class "
            f"map, or one per class, got {unknown[0]!r} in {str(source)!r}."
        )
    return Dataset(
        str(source),
        tuple(
            Example(image.path, image.read, known[image.folder.lower()])
            for image in found
        ),
    )


def read_arrays(file: str | Path) -> Dataset:
    """Read images from the arrays of an ``.npz`` file.

    Args:
        file (str or Path): File of ``numpy.savez`` with ``images`` (N, H, W, 3) of
            bytes, ``labels`` (N,), and optionally ``boxes`` or ``roi`` (N, 4), one
            object per image: x0, y0, x1, y1 as edges in pixels.

    Returns:
        *Dataset*: Images with labels, and boxes if the file has them, in the order of
        the arrays; names are positions in the arrays.

    Raises:
        ValueError: If the file does not exist, or has other content.
    """
    file = existing_path(file, "file")
    expected = (
        f"dataset must be an .npz file with images (N, H, W, 3) of bytes, labels (N,) "
        f"of integers and optional boxes (N, 4), got {str(file)!r}"
    )
    try:
        with np.load(file) as arrays:
            images, labels = arrays["images"], arrays["labels"]
            names = [name for name in ("boxes", "roi") if name in arrays]
            edges = arrays[names[0]] if names else None
    except Exception as error:  # Broken files can raise anything.
        raise ValueError(f"{expected} ({error}).") from error
    if images.dtype != np.uint8 or images.shape[3:] != (3,):
        raise ValueError(f"{expected} with {images.dtype} of {images.shape}.")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"{expected} with {labels.dtype} labels of {labels.shape}.")
    if edges is None:
        boxes: list[tuple[Box, ...]] = [()] * len(images)
    else:
        _check_edges(edges, len(images), file)
        boxes = [
            (Box((label,), tuple(box)),)
            for label, box in zip(labels.tolist(), edges.tolist())
        ]
    return Dataset(
        str(file),
        tuple(
            Example(f"{i}", partial(Image.fromarray, image), (int(label),), box)
            for i, (image, label, box) in enumerate(zip(images, labels, boxes))
        ),
    )


def _check_edges(edges: NDArray[Any], n: int, file: Path) -> None:
    if edges.shape != (n, 4) or not (edges[:, :2] < edges[:, 2:]).all():
        raise ValueError(
            f"dataset must have one box x0 < x1, y0 < y1 per image, ({n}, 4), got "
            f"{edges.shape} in {str(file)!r}."
        )


def read_signs(n: int = 100, seed: int = 0) -> Dataset:
    """Generate the built-in road-sign scenes, with the boxes of their signs.

    Args:
        n (int, optional): Number of scenes. Default: 100
        seed (int, optional): Seed of the first scene. Default: 0

    Returns:
        *Dataset*: Scenes with labels and boxes.

    Raises:
        ValueError: If a seed is outside the range of
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
        # Scenes are small, and their labels are known only once they are drawn.
        read = partial(Image.fromarray, np.asarray(to_pil_image(scene.image)))
        examples.append(Example(f"scene-{number}", read, (scene.label,), boxes))
    return Dataset("signs", tuple(examples))
