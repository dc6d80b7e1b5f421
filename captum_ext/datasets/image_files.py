"""Files that data sets are read from: whether they are there, and their images."""

import os
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

__all__ = [
    "FoundImage",
    "existing",
    "open_image",
    "open_upright",
    "images_of_archive",
    "images_of_folders",
]


class FoundImage(NamedTuple):
    """An image within a folder.

    Attributes:
        folder (str): Name of the folder.
        path (str): Relative, with slashes.
        read (Callable): Opens the image, in RGB.
    """

    folder: str
    path: str
    read: Callable[[], Image.Image]


def existing(path: str | Path, kind: str = "folder") -> Path:
    """The absolute path of what is there.

    Args:
        path (str or Path): Of a folder or file.
        kind (str, optional): "folder" or "file". Default: "folder"

    Returns:
        *Path*: Absolute.

    Raises:
        ValueError: If there is none.
    """
    path = Path(path).resolve()
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise ValueError(f"dataset must be an existing {kind}, got {str(path)!r}.")
    return path


def open_image(path: Path) -> Image.Image:
    """An image in RGB, with the pixels of its file."""
    with Image.open(path) as image:
        return image.convert("RGB")


def open_upright(path: Path) -> Image.Image:
    """An image in RGB, turned upright as its camera says."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def images_of_folders(folder: Path) -> list[FoundImage]:
    """Images in the folders of a folder, as torchvision's ``ImageFolder`` finds them.

    Args:
        folder (Path): It exists.

    Returns:
        *list[FoundImage]*: Folder by folder.

    Raises:
        OSError: If there is no image in a folder.
    """
    found = ImageFolder(str(folder))
    paths = [(found.classes[i], Path(path)) for path, i in found.samples]
    return [
        FoundImage(name, path.relative_to(folder).as_posix(), partial(open_image, path))
        for name, path in paths
    ]


def images_of_archive(file: Path) -> list[FoundImage]:
    """Images in the folders of a ZIP file, which stays packed.

    Args:
        file (Path): It exists.

    Returns:
        *list[FoundImage]*: In the order of their paths.

    Raises:
        ValueError: If it is no ZIP file.
    """
    try:
        names = sorted(_archive(file, os.getpid()).namelist())
    except (OSError, BadZipFile) as error:
        raise ValueError(
            f"dataset must be a ZIP file, got {str(file)!r} ({error})."
        ) from error
    paths = [
        path
        for path in map(PurePosixPath, names)
        if path.suffix.lower() in IMG_EXTENSIONS
        # A Mac packs "._" and the name beside each file.
        and not path.name.startswith(".")
        and len(path.parts) > 1
    ]
    return [
        FoundImage(path.parts[-2], str(path), partial(_open_packed, file, str(path)))
        for path in paths
    ]


@lru_cache(maxsize=4)
def _archive(file: Path, process: int) -> ZipFile:
    # Listing a large archive takes as long as reading a thousand images of it, so it
    # stays open. A process that was forked must not share the place where it reads.
    return ZipFile(file)


def _open_packed(file: Path, name: str) -> Image.Image:
    with _archive(file, os.getpid()).open(name) as stream, Image.open(stream) as image:
        return image.convert("RGB")
