"""Checkpoints of a training, and how it finds them again.

A folder keeps the newest checkpoint and the one before. Whatever happens while one is
written, power failure and a full disk included, another can be read.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from captum_ext._files import save_tensors

__all__ = ["load_checkpoint", "load_file", "save_checkpoint"]

_NEWEST, _PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def load_file(path: Path) -> dict[str, Any]:
    """Read what this package wrote.

    Args:
        path (Path): The file.

    Returns:
        *dict*: Its content, on the CPU.

    Raises:
        ValueError: If there is no such file, or it is truncated or something else.
    """
    if not path.is_file():
        raise ValueError(f"path must be an existing file, got {str(path)!r}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Bytes that are no pickle can raise anything.
        raise ValueError(
            f"path must be a file that was written whole by this package, got "
            f"{str(path)!r}, which is truncated or something else."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"path must be a file that was written by this package, got {str(path)!r}, "
            f"which holds a {type(content).__name__}."
        )
    return content


def save_checkpoint(content: Mapping[str, Any], folder: Path) -> None:
    """Make this the newest checkpoint; the newest becomes the one before.

    Args:
        content (Mapping): Tensors and plain values.
        folder (Path): Where checkpoints lie.

    Raises:
        OSError: If it cannot be written; checkpoints stay as they were.
    """
    waiting = folder / "checkpoint.next.pt"
    save_tensors(dict(content), waiting)
    if (folder / _NEWEST).exists():
        os.replace(folder / _NEWEST, folder / _PREVIOUS)
    os.replace(waiting, folder / _NEWEST)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read.

    Args:
        folder (Path): Where checkpoints lie.

    Returns:
        *dict*, or None if there is none. A warning says so if the newest could not be
        read and the one before is used.

    Raises:
        ValueError: If there are checkpoints and none can be read.
    """
    found = [folder / name for name in (_NEWEST, _PREVIOUS) if (folder / name).exists()]
    problems = []
    for path in found:
        try:
            content = load_file(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(
                f"{problems[0]} Training resumes from {path.name}.", stacklevel=2
            )
        return content
    if problems:
        raise ValueError(problems[0])
    return None
