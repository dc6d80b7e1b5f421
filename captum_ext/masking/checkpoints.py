"""Checkpoints of a training run: written atomically, with one previous version.

A folder keeps the newest checkpoint and the previous one. If writing a checkpoint
fails at any point, power failure and a full disk included, one of them is readable.
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
    """Read a file written by this package.

    Args:
        path (Path): Path of the file.

    Returns:
        *dict*: Content of the file, on the CPU.

    Raises:
        ValueError: If there is no such file, or it is truncated or of another kind.
    """
    if not path.is_file():
        raise ValueError(f"path must be an existing file, got {str(path)!r}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Arbitrary bytes can raise any exception.
        raise ValueError(
            f"path must be a complete file written by this package, got "
            f"{str(path)!r}, which is truncated or of another kind."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"path must be a file written by this package, got {str(path)!r}, which "
            f"holds a {type(content).__name__}."
        )
    return content


def save_checkpoint(content: Mapping[str, Any], folder: Path) -> None:
    """Write the newest checkpoint; the one so far becomes the previous one.

    Args:
        content (Mapping): Tensors and plain values.
        folder (Path): Folder of the checkpoints.

    Raises:
        OSError: If it cannot be written; existing checkpoints are unchanged.
    """
    pending = folder / "checkpoint.next.pt"
    save_tensors(dict(content), pending)
    if (folder / _NEWEST).exists():
        os.replace(folder / _NEWEST, folder / _PREVIOUS)
    os.replace(pending, folder / _NEWEST)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest readable checkpoint, with a warning if it is the previous one.

    Args:
        folder (Path): Folder of the checkpoints.

    Returns:
        *dict* or None: Content of the checkpoint; None if there is none.

    Raises:
        ValueError: If there are checkpoints and none is readable.
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
