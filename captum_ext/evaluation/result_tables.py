"""Tables of a run: merged from its rows, and read as results."""

from collections.abc import Iterable, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from captum_ext._files import write_file
from captum_ext.evaluation.run_folder import (
    CURVE_DIGITS,
    Key,
    Row,
    read_class_names,
    read_rows,
    read_settings,
)

__all__ = ["Results", "merge_tables", "read_results"]

_KEY = ["image", "method", "metric"]
_COLUMNS = [
    "image",
    "label",
    "target",
    "probability",
    "method",
    "metric",
    "value",
    "error",
]
_TEXT_COLUMNS = {*_KEY, "error"}
_CLASS_COLUMNS = {"label": "Int64", "target": "Int64"}


class Results(NamedTuple):
    """Results of a run.

    Attributes:
        table (pandas.DataFrame): One row per image, method and metric, in the order of
            the data set, the methods and the metrics: image, label, target (the
            explained class), probability (of the target), method, metric, value, error
            (a message if there is no value).
        curves (pandas.DataFrame): Scores by image, method and metric (the index), one
            column per share of the pixels, a float in [0, 1].
        timings (pandas.DataFrame): Columns image, method and seconds.
        settings (dict): Settings that determine the results.
        provenance (dict): Versions, hardware, command and time.
        class_names (tuple of str, optional): Names of the classes by their index.
            Default: () (unknown)
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    timings: pd.DataFrame
    settings: dict[str, Any]
    provenance: dict[str, Any]
    class_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        names = [", ".join(self.settings[kind]) for kind in ("methods", "metrics")]
        n = self.table["image"].nunique()
        return f"Results({n} image{'s' * (n != 1)}: {' by '.join(names)})"


def merge_tables(folder: Path, images: Iterable[str]) -> None:
    """Write the tables of a run whose rows are all computed.

    Args:
        folder (Path): Folder of the run.
        images (iterable of str): Names of all images, in the order of the data set.

    Raises:
        ValueError: If a row is missing.
    """
    settings = read_settings(folder)["settings"]
    found = read_rows(folder)
    keys: list[Key] = [
        (image, method, metric)
        for image in images
        if (image, None, None) not in found
        for method, metric in product(settings["methods"], settings["metrics"])
    ]
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(
            f"output {str(folder)!r} lacks {len(missing)} rows such as "
            f"{', '.join(map(str, missing[0]))}: start the run again."
        )
    rows = [found[key] for key in keys]
    table = pd.DataFrame(rows, columns=Row._fields)[_COLUMNS]
    table = table.astype(_CLASS_COLUMNS)
    timings = pd.DataFrame(rows, columns=Row._fields)[["image", "method", "seconds"]]
    timings = timings.drop_duplicates(["image", "method"])
    _write_table(folder / "curves.csv", _curve_table(rows))
    _write_table(folder / "timings.csv", timings)
    # Written last: this file marks the run as complete.
    _write_table(folder / "results.csv", table)


def _curve_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Curves by image, method and metric; their numbers of points may differ."""
    curves = [row for row in rows if row.curve]
    index = pd.MultiIndex.from_tuples([row.key for row in curves], names=_KEY)
    if not curves:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * 3, names=_KEY))
    tables = []
    by_length = sorted(curves, key=lambda row: len(row.curve or ()))
    for n, group in groupby(by_length, lambda row: len(row.curve or ())):
        same = list(group)
        shares = np.linspace(0, 1, n).round(CURVE_DIGITS)
        keys = pd.MultiIndex.from_tuples([row.key for row in same], names=_KEY)
        tables.append(pd.DataFrame([r.curve for r in same], keys, shares))
    joined = pd.concat(tables)
    return joined[sorted(joined.columns)].reindex(index)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    keyed = table.index.names != [None]
    write_file(table.to_csv(index=keyed, lineterminator="\n").encode(), path)


def read_results(folder: str | Path) -> Results:
    """Read the results of a complete run.

    Args:
        folder (str or Path): Folder of the run.

    Returns:
        *Results*: ``(table, curves, timings, settings, provenance, class_names)``.

    Raises:
        ValueError: If the folder holds no results, or the run is not complete.
    """
    folder = Path(folder)
    if not (folder / "settings.json").is_file():
        raise ValueError(
            f"results must be a folder that an evaluation wrote, got {str(folder)!r}."
        )
    if not (folder / "results.csv").is_file():
        raise ValueError(
            f"results in {str(folder)!r} are not complete: start the evaluation again "
            f"with the same settings to resume it."
        )
    curves = _read_table(folder / "curves.csv").set_index(_KEY)
    return Results(
        _read_table(folder / "results.csv"),
        curves.set_axis(curves.columns.astype(float), axis="columns"),
        _read_table(folder / "timings.csv"),
        **read_settings(folder),
        class_names=read_class_names(folder),
    )


def _read_table(path: Path) -> pd.DataFrame:
    # Read as text first: pandas would parse an image named "NA" as missing, and some
    # releases round the last digit of numbers.
    table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    numbers = {name: _CLASS_COLUMNS.get(name, "float64") for name in table}
    return table.astype({name: numbers[name] for name in {*table} - _TEXT_COLUMNS})
