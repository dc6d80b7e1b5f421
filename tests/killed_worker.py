"""An evaluation that kills its own process at a chosen place."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import distributed

from captum_ext.datasets import read_signs
from captum_ext.evaluation import evaluate, run_folder
from captum_ext.zoo import load

__all__ = [
    "Place",
    "evaluate_and_die",
    "files",
    "main",
    "small_evaluation",
    "whole_lines",
]

TABLES = ("results.csv", "curves.csv")


class Place(NamedTuple):
    """Where a process is killed: within its rows, or within the files it replaces.

    Attributes:
        n_bytes (int): Bytes of rows to write before, up to the middle of a row.
        n_files (int): Files to replace before; the next one is written under its
            temporary name.
    """

    n_bytes: int
    n_files: int


class _Part:
    """A file of rows that kills the process after a number of bytes."""

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
    """Make this process kill itself at a place."""
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
    """A fast evaluation, with and without curves."""
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
    """Run the evaluation as one of several processes, up to a place if given."""
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


def files(folder: Path) -> dict[str, bytes]:
    """Files that must not depend on kills."""
    paths = [folder / name for name in TABLES]
    paths += [*(folder / "images").glob("*"), *(folder / "maps").rglob("*.png")]
    shown = [path for path in paths if path.name[0] != "."]
    return {str(path.relative_to(folder)): path.read_bytes() for path in shown}


def whole_lines(folder: Path) -> Counter[bytes]:
    """Complete rows, with their numbers of occurrences."""
    parts = (folder / "parts").glob("*.jsonl")
    return Counter(
        line for part in parts for line in part.read_bytes().split(b"\n")[:-1]
    )


def main(arguments: list[str]) -> int:
    """Run the command, killing all ranks but the first at a place."""
    from captum_ext.cli import main as command

    if os.environ["RANK"] != "0":
        arm(Place(int(arguments[0]), 10**9))
    return command(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
