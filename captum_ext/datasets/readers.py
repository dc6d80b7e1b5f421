"""Images of each layout that has no files of annotations.

Reading lists what there is; image files are opened one by one when their turn comes.
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
    existing,
    images_of_archive,
    images_of_folders,
    open_upright,
)
from captum_ext.zoo import sign_scene

__all__ = ["read_arrays", "read_class_folders", "read_images", "read_signs"]


def read_images(folder: str | Path) -> Dataset:
    """Images in a folder, of which nothing is known.

    They are turned upright as their camera says.

    Args:
        folder (str or Path): Image files; what else is there is passed over.

    Returns:
        *Dataset*: In the order of their names.

    Raises:
        ValueError: If there is no such folder.
    """
    folder = existing(folder)
    paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMG_EXTENSIONS]
    return Dataset(
        str(folder),
        tuple(Example(path.name, partial(open_upright, path)) for path in paths),
    )


def read_class_folders(
    folder: str | Path, class_names: Sequence[str], class_map: ClassMap | None = None
) -> Dataset:
    """Images in one folder a class, as torchvision's ``ImageFolder`` has them.

    A folder is the class that it is named like, in upper or lower case. Where no
    folder is named like a class and there are as many folders as classes, they are the
    classes in their order.

    Args:
        folder (str or Path): Folders of images, or a ZIP file of them.
        class_names (sequence of str): Of the model.
        class_map (Mapping, optional): Classes by the name of a folder, of
            :func:`read_class_map`. Default: None (the model's own names)

    Returns:
        *Dataset*: With labels.

    Raises:
        ValueError: If there is no such folder, or the class of a folder is not known.
        OSError: If there is no image in a folder.
    """
    packed = Path(folder).suffix.lower() == ".zip"
    source = existing(folder, "file" if packed else "folder")
    found = images_of_archive(source) if packed else images_of_folders(source)
    folders = sorted({image.folder for image in found})
    known = classes_by_name(class_names, class_map)
    unknown = [name for name in folders if name.lower() not in known]
    if len(unknown) == len(folders) == len(class_names) and not class_map:
        known = {name.lower(): (i,) for i, name in enumerate(folders)}
    elif unknown:
        raise ValueError(
            f"dataset must have folders named like the model's classes, or as many as "
            f"it has, or a class map, got {unknown[0]!r} in {str(source)!r}."
        )
    return Dataset(
        str(source),
        tuple(
            Example(image.path, image.read, known[image.folder.lower()])
            for image in found
        ),
    )


def read_arrays(file: str | Path) -> Dataset:
    """Images in the arrays of one file.

    Args:
        file (str or Path): What ``numpy.savez`` wrote: ``images`` (N, H, W, 3) of
            bytes, ``labels`` (N,), and maybe ``boxes`` or ``roi`` (N, 4), one object
            in each image: x0, y0, x1, y1 as edges in pixels.

    Returns:
        *Dataset*: With labels, and boxes if there are some, in the order of the
        arrays, whose places are the names.

    Raises:
        ValueError: If there is no such file, or it holds something else.
    """
    file = existing(file, "file")
    expected = (
        f"dataset must be an .npz file with images (N, H, W, 3) of bytes, labels (N,) "
        f"of integers and maybe boxes (N, 4), got {str(file)!r}"
    )
    try:
        with np.load(file) as arrays:
            images, labels = arrays["images"], arrays["labels"]
            names = [name for name in ("boxes", "roi") if name in arrays]
            edges = arrays[names[0]] if names else None
    except Exception as error:  # Bytes that are no arrays can raise anything.
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
            f"dataset must have a box x0 < x1, y0 < y1 for each image, ({n}, 4), got "
            f"{edges.shape} in {str(file)!r}."
        )


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
        # Small, and what is known of it cannot be had without drawing it.
        read = partial(Image.fromarray, np.asarray(to_pil_image(scene.image)))
        examples.append(Example(f"scene-{number}", read, (scene.label,), boxes))
    return Dataset("signs", tuple(examples))
