"""Image files in folders and ZIP archives: finding and opening them."""

import os
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple
from zipfile import BadZipFile, ZipFile

from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from captum_ext.zoo import upright_rgb

__all__ = [
    "ClassFolderImage",
    "existing_path",
    "images_in_archive",
    "images_in_folders",
    "open_image",
]


class ClassFolderImage(NamedTuple):
    """An image in a class folder.

    Attributes:
        folder (str): Name of the class folder.
        path (str): Relative path with forward slashes.
        read (Callable): Function that opens the image, in upright RGB.
    """

    folder: str
    path: str
    read: Callable[[], Image.Image]


def existing_path(path: str | Path, kind: str = "folder") -> Path:
    """Resolve the path of an existing folder or file.

    Args:
        path (str or Path): Path of the folder or file.
        kind (str, optional): "folder" or "file". Default: "folder"

    Returns:
        *Path*: Absolute path.

    Raises:
        ValueError: If it does not exist.
    """
    path = Path(path).resolve()
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise ValueError(f"dataset must be an existing {kind}, got {str(path)!r}.")
    return path


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """Open an image as upright RGB, the one way in which all commands read images.

    Args:
        file (Path or binary file): Image file of any mode.

    Returns:
        *PIL.Image.Image*: Image as :func:`~captum_ext.zoo.upright_rgb` converts it.

    Raises:
        OSError: If the file does not exist or is not an image.
        ValueError: If its values have no known range.
    """
    with Image.open(file) as image:
        return upright_rgb(image)


def images_in_folders(folder: Path) -> list[ClassFolderImage]:
    """List the images in class folders, as torchvision's ``ImageFolder`` does.

    Args:
        folder (Path): Existing folder with one folder per class.

    Returns:
        *list[ClassFolderImage]*: Images, folder by folder.

    Raises:
        OSError: If a folder contains no image.
    """
    try:
        found = ImageFolder(str(folder))
    except FileNotFoundError as error:
        reason = str(error).split(". ")[0].rstrip(".")
        raise FileNotFoundError(
            f"dataset must be a folder with one folder of images per class, got "
            f"{str(folder)!r} ({reason})."
        ) from error
    paths = [(found.classes[i], Path(path)) for path, i in found.samples]
    return [
        ClassFolderImage(
            name, path.relative_to(folder).as_posix(), partial(open_image, path)
        )
        for name, path in paths
    ]


def images_in_archive(file: Path) -> list[ClassFolderImage]:
    """List the images in the class folders of a ZIP file, without unpacking it.

    Args:
        file (Path): Existing file.

    Returns:
        *list[ClassFolderImage]*: Images, sorted by path.

    Raises:
        ValueError: If the file is not a ZIP file.
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
        # macOS packs a file "._NAME" next to each file.
        and not path.name.startswith(".")
        and len(path.parts) > 1
    ]
    return [
        ClassFolderImage(
            path.parts[-2], str(path), partial(_open_packed, file, str(path))
        )
        for path in paths
    ]


@lru_cache(maxsize=4)
def _archive(file: Path, process: int) -> ZipFile:
    # Listing a large archive takes as long as reading a thousand images from it, so it
    # stays open. A forked process must not share the file position of its parent.
    return ZipFile(file)


def _open_packed(file: Path, name: str) -> Image.Image:
    with _archive(file, os.getpid()).open(name) as stream:
        return open_image(stream)
