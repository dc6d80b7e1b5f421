"""Rows of results in a JSONL file, to which a command that was stopped returns."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["RowFile", "difference_table", "markdown", "read_rows", "row_parser"]


def row_parser(description: str | None, n_images: int) -> argparse.ArgumentParser:
    """Parser of a command that writes rows of images, or prints their tables."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--n-images", type=int, default=n_images)
    parser.add_argument("--output", type=Path, required=True, help="JSONL file of rows")
    parser.add_argument("--report", action="store_true", help="only print the tables")
    return parser


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Complete rows of a file; the last may be cut off by a stop."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print("skipped an incomplete row", file=sys.stderr)
    return rows


class RowFile:
    """Rows that are identified by some of their values.

    Args:
        path (Path): JSONL file, which is created if there is none.
        keys (iterable of str): Names of the values that identify a row.
    """

    def __init__(self, path: Path, keys: Iterable[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        self._done = {tuple(row[key] for key in self.keys) for row in read_rows(path)}
        text = path.read_text("utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):
            path.write_text(text + "\n", "utf-8")

    def has(self, *values: object) -> bool:
        """Whether there is a row with these values of the keys."""
        return values in self._done

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row at once."""
        with self.path.open("a", encoding="utf-8") as file:
            print(json.dumps(row), file=file, flush=True)
        self._done.add(tuple(row[key] for key in self.keys))


def difference_table(tests: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """Differences with their p-values in parentheses, one column per metric.

    Args:
        tests (pandas.DataFrame): Columns difference, p, metric and those of the index.
        index (list of str): Columns that identify a row of the table.
    """
    cells = [f"{d:+.3f} ({p:.2g})" for d, p in zip(tests.difference, tests.p)]
    return tests.assign(cell=cells).pivot_table(
        "cell", index, "metric", "first", sort=False
    )


def markdown(table: pd.DataFrame) -> str:
    """Table of strings with its index as the first columns."""
    flat = table.reset_index()
    lines = [list(flat.columns), ["---"] * flat.shape[1], *flat.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
