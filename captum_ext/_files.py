"""Files that are written whole or not at all.

Whatever happens meanwhile, a full disk and a killed process included, a reader finds
what was there before or all of what was to be written.
"""

import contextlib
import io
import os
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["save_figure", "save_image", "save_tensors", "write_file"]


def write_file(content: bytes, path: Path) -> None:
    """Write a file under another name first.

    Args:
        content (bytes): All of the file.
        path (Path): The file.

    Raises:
        OSError: If it cannot be written, on a full disk for example; a file of that
            name stays as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OSError(
            f"{str(path)!r} could not be written ({error.strerror or error}); what was "
            f"there is unchanged."
        ) from error


def save_tensors(content: object, path: Path) -> None:
    """Write tensors and plain values.

    Args:
        content (Any): What ``torch.load(..., weights_only=True)`` can read.
        path (Path): The file.

    Raises:
        OSError: If it cannot be written; a file of that name stays as it was.
    """
    # By way of memory: torch.save itself ends a full disk with an error of its own.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(buffer.getvalue(), path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix.

    Args:
        figure (Figure): What to draw.
        path (Path): The file.

    Raises:
        OSError: If it cannot be written; a file of that name stays as it was.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower())
    write_file(buffer.getvalue(), path)


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image in the format of the file's suffix, and the folders round it.

    Args:
        image (PIL.Image.Image): What to write.
        path (Path): The file.

    Raises:
        OSError: If it cannot be written; a file of that name stays as it was.
    """
    buffer = io.BytesIO()
    kind = Image.registered_extensions()[path.suffix.lower()]
    image.save(buffer, format=kind, optimize=True, quality=85)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(buffer.getvalue(), path)
