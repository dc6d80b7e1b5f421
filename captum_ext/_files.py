"""Atomic file writing: a file is replaced as a whole or not at all.

After a full disk or a killed process, a reader finds either the old content or all of
the new one.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "WriteError",
    "replacing",
    "save_figure",
    "save_image",
    "save_tensors",
    "write_file",
]


class WriteError(OSError):
    """A file cannot be written, for example on a full disk."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Collect content in memory and replace a file by it when the block succeeds.

    Args:
        path (Path): File to create or replace.

    Yields:
        BinaryIO: Buffer to write to.

    Raises:
        WriteError: If the file cannot be written, for example on a full disk; an
            existing file is then unchanged.

    Examples::

        >>> with replacing(Path("numbers.bin")) as file:
        ...     _ = file.write(bytes(3))
        >>> Path("numbers.bin").read_bytes()
        b'\\x00\\x00\\x00'
    """
    # In memory first: on a full disk, torch.save raises errors of other types.
    buffer = io.BytesIO()
    yield buffer
    # Other processes may write the same file.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise WriteError(
            f"{str(path)!r} could not be written ({error.strerror or error}); an "
            f"existing file is unchanged."
        ) from error


def write_file(content: bytes, path: Path) -> None:
    """Write bytes; see :func:`replacing` for errors.

    Args:
        content (bytes): New content of the file.
        path (Path): File to create or replace.
    """
    with replacing(path) as file:
        file.write(content)


def save_tensors(content: object, path: Path) -> None:
    """Write tensors and plain values; see :func:`replacing` for errors.

    Args:
        content (Any): Content that ``torch.load(..., weights_only=True)`` can read.
        path (Path): File to create or replace.
    """
    with replacing(path) as file:
        torch.save(content, file)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; see :func:`replacing` for errors.

    Args:
        figure (Figure): Figure to write.
        path (Path): File to create or replace; its suffix is the format.
    """
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower())


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image, creating missing folders; see :func:`replacing` for errors.

    Args:
        image (PIL.Image.Image): Image to write.
        path (Path): File to create or replace; its suffix is the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        format_ = Image.registered_extensions()[path.suffix.lower()]
        image.save(file, format=format_, optimize=True, quality=85)
