"""An evaluation that kills itself at a chosen place, with nothing left to clean up."""

import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import distributed

from captum_ext.datasets import read_signs
from captum_ext.evaluation import evaluate, run_folder
from captum_ext.zoo import load

__all__ = ["Place", "evaluate_and_die", "main", "small_evaluation"]


class Place(NamedTuple):
    """Where a process ends: within its rows, or within the files it replaces.

    Attributes:
        n_bytes (int): Bytes of rows that are still written, up to the middle of one.
        n_files (int): Files that are still replaced; the next one is written and lies
            there under its other name.
    """

    n_bytes: int
    n_files: int


class _Part:
    """A part that takes so many bytes."""

    def __init__(self, file: BinaryIO, n_bytes: int) -> None:
        self.file, self.left, self.name = file, n_bytes, file.name

    def write(self, line: bytes) -> int:
        if len(line) > self.left:
            self.file.write(line[: self.left])
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= len(line)
        return self.file.write(line)

    def close(self) -> None:
        self.file.close()


def arm(place: Place) -> None:
    """From now on this process ends there."""
    replace, left = os.replace, place.n_files

    def replace_or_die(*paths: Any) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        replace(*paths)

    def open_part(*arguments: Any, **options: Any) -> _Part:
        return _Part(open(*arguments, **options), place.n_bytes)

    os.replace = replace_or_die
    run_folder.open = open_part  # type: ignore[attr-defined]


def small_evaluation(folder: Path) -> None:
    """Rows of some length, with curves and without, fast."""
    evaluate(
        read_signs(16),
        load("signs"),
        "random,coarse=random:grid_size=3",
        "insertion:n_steps=3,pointing-game",
        folder,
    )


def evaluate_and_die(
    folder: Path, place: Place | None, rank: int, world_size: int, meeting: Path
) -> None:
    """The evaluation in one of several processes, up to a place if one is given."""
    torch.set_num_threads(1)
    if place is not None:
        arm(place)
    if world_size > 1:
        distributed.init_process_group(
            "gloo", f"file://{meeting}", rank=rank, world_size=world_size
        )
    small_evaluation(folder)
    if world_size > 1:
        distributed.destroy_process_group()


def main(arguments: list[str]) -> int:
    """The command, in which the last rank that torchrun starts ends at a place."""
    from captum_ext.cli import main as command

    if os.environ["RANK"] != "0":
        arm(Place(int(arguments[0]), 10**9))
    return command(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
