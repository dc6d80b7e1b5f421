"""Files of commands that explain images: what they read and what they write."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from captum_ext._files import replacing

__all__ = ["FIGURE_SUFFIXES", "Job", "check_writable", "list_jobs", "save_map"]

FIGURE_SUFFIXES = (".png", ".jpg", ".pdf", ".svg")
"""Formats of figures."""


class Job(NamedTuple):
    """An image with the files that are written for it.

    Attributes:
        image (Path): File of the image or video.
        figure (Path): File of the figure.
        maps (tuple of Path): File of the map of each method; empty if none is written.
    """

    image: Path
    figure: Path
    maps: tuple[Path, ...]


def list_jobs(
    given: Sequence[Path],
    methods: Sequence[str],
    output: Path | None,
    save_map: Path | None,
    suffixes: Sequence[str] = FIGURE_SUFFIXES,
) -> list[Job]:
    """List the images and their output files, and check these before any work.

    Args:
        given (sequence of Path): Files, and folders, which stand for the images in
            them.
        methods (sequence of str): Names of the methods.
        output (Path, optional): File of the figure, or a folder for IMAGE-METHOD.png.
            None is the current folder.
        save_map (Path, optional): File of the map, or a folder for IMAGE-METHOD.npy.
            None writes no map.
        suffixes (sequence of str, optional): Formats of the figure.
            Default: those of matplotlib

    Returns:
        *list[Job]*: Images, in the given order; those of a folder by their names.

    Raises:
        ValueError: If a folder has no image, figures would have the same name or
            replace an image, or a file cannot be written.
    """
    images = [image for path in given for image in _images(path)]
    figures = _files(images, ["-".join(methods)], output, "--output", suffixes, ".png")
    maps: list[list[Path]] = [[] for _ in images]
    if save_map is not None:
        maps = _files(images, methods, save_map, "--save-map", (".npy", ".pt"), ".npy")
    jobs = [Job(i, f[0], tuple(m)) for i, f, m in zip(images, figures, maps)]
    _check_kept(given, jobs)
    return jobs


def _images(path: Path) -> list[Path]:
    """The file, or the image files of a folder."""
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in IMG_EXTENSIONS and not file.name.startswith(".")
    )
    if not found:
        raise ValueError(
            f"image must be a file or a folder with image files, got {str(path)!r}."
        )
    return found


def _files(
    images: Sequence[Path],
    methods: Sequence[str],
    output: Path | None,
    argument: str,
    suffixes: Sequence[str],
    default_suffix: str,
) -> list[list[Path]]:
    """A file for each image and method."""
    folder = Path() if output is None else output
    if folder.suffix and not folder.is_dir():
        if len(images) * len(methods) > 1:
            raise ValueError(
                f"{argument} must be a folder for several images or methods, got "
                f"{str(folder)!r}."
            )
        check_writable(folder, suffixes, argument)
        return [[folder]]
    if folder.is_file() or not folder.resolve().parent.is_dir():
        raise ValueError(
            f"{argument} must be a folder in an existing one, or a file that ends in "
            f"{' or '.join(suffixes)}, got {str(folder)!r}."
        )
    _check_access(folder if folder.is_dir() else folder.resolve().parent, argument)
    return [
        [folder / f"{image.stem}-{method}{default_suffix}" for method in methods]
        for image in images
    ]


def _check_kept(given: Sequence[Path], jobs: Sequence[Job]) -> None:
    """Refuse figures that replace an image or each other, or become images."""
    images = {job.image.resolve() for job in jobs}
    [(figure, n)] = Counter(job.figure for job in jobs).most_common(1)
    if n > 1:
        raise ValueError(
            f"image must be files of different names, got {n} whose figure would be "
            f"{str(figure)!r}."
        )
    for job in jobs:
        if {job.figure.resolve(), job.figure.with_suffix(".gif").resolve()} & images:
            raise ValueError(
                f"--output must have another name than the image, got "
                f"{str(job.figure)!r}."
            )
    folder = jobs[0].figure.parent.resolve()
    if any(path.is_dir() and path.resolve() == folder for path in given):
        raise ValueError(
            f"--output must be another folder than that of the images, where figures "
            f"would be taken for images the next time, got {str(folder)!r}."
        )


def check_writable(path: Path, suffixes: Sequence[str], argument: str) -> None:
    """Check that a file can be written, before any work.

    Args:
        path (Path): File to write.
        suffixes (sequence of str): Suffixes of the formats that can be written.
        argument (str): Name of the argument, for the error.

    Raises:
        ValueError: If the suffix is not among them, or the folder does not exist or
            cannot be written.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{argument} must end in {' or '.join(suffixes)}, got {str(path)!r}."
        )
    if not path.resolve().parent.is_dir():
        raise ValueError(
            f"{argument} must be a file in an existing folder, got {str(path)!r}."
        )
    _check_access(path.resolve().parent, argument)


def _check_access(folder: Path, argument: str) -> None:
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"{argument} must be in a folder that can be written, got {str(folder)!r}."
        )


def save_map(maps: Tensor, path: Path) -> None:
    """Write a map atomically, creating its folder.

    Args:
        maps (Tensor): Map on the CPU.
        path (Path): File that ends in .npy or .pt.
    """
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
        if path.suffix.lower() == ".npy":
            np.save(file, maps.numpy())
        else:
            torch.save(maps, file)
