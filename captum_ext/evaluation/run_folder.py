"""The folder of a run: what was asked, rows as they are computed, tables at the end.

==================  ==========================================================
settings.json       ``settings`` determine the results, ``provenance`` does not
parts/*.jsonl       one line for each image, method and metric; each process
                    appends to a file of its own, so that none can harm another's
images/, maps/    what the model saw, and the maps over it
results.csv         the table, merged when all rows are there
curves.csv          of metrics that follow a curve
timings.csv         seconds that each map took
==================  ==========================================================

Files other than the parts are written whole or not at all. A line that was torn by a
kill has no end, and is passed over.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, groupby, product
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from captum_ext._files import write_file

__all__ = [
    "Key",
    "Results",
    "Row",
    "RowWriter",
    "begin_run",
    "check_folder",
    "map_path",
    "merge",
    "image_path",
    "read_results",
    "read_rows",
]

Key = tuple[str, str | None, str | None]

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
_TEXTS = {*_KEY, "error"}
_CLASSES = {"label": "Int64", "target": "Int64"}
# Curves are for drawing; six digits make them a third as long as all.
_DIGITS = 6


class Results(NamedTuple):
    """What a run found.

    Attributes:
        table (pandas.DataFrame): One row for each image, method and metric, in the
            order of the data set, the methods and the metrics: image, label, target
            (the class that was explained), probability (of the target), method,
            metric, value, error (why there is no value).
        curves (pandas.DataFrame): Scores by image, method and metric (the index), one
            column for each share of the pixels, a float in [0, 1].
        timings (pandas.DataFrame): image, method and seconds.
        settings (dict): All that determines the results.
        provenance (dict): Versions, hardware, command and time.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    timings: pd.DataFrame
    settings: dict[str, Any]
    provenance: dict[str, Any]


class Row(NamedTuple):
    """One image, method and metric; or an image that is left out, without these two.

    Attributes:
        image (str): Name of the image in its data set.
        label (int, optional): Class that is right.
        target (int, optional): Class that was explained.
        probability (float, optional): Of the target.
        method (str, optional): Name in the settings.
        metric (str, optional): Name in the settings.
        value (float, optional): None on an error.
        error (str, optional): Why there is no value, in one line.
        curve (list of float, optional): Scores over equal shares of the pixels.
        seconds (float, optional): That the map took.
    """

    image: str
    label: int | None = None
    target: int | None = None
    probability: float | None = None
    method: str | None = None
    metric: str | None = None
    value: float | None = None
    error: str | None = None
    curve: list[float] | None = None
    seconds: float | None = None

    @property
    def key(self) -> Key:
        """What no two rows of a table share."""
        return self.image, self.method, self.metric


def image_path(folder: Path, image: str) -> Path:
    """File of an image as the model saw it.

    Args:
        folder (Path): Of the run.
        image (str): Name of the image in its data set.

    Returns:
        *Path*: A JPEG.
    """
    return folder / "images" / f"{image}.jpg"


def map_path(folder: Path, image: str, method: str) -> Path:
    """File of a map drawn over its image.

    Args:
        folder (Path): Of the run.
        image (str): Name of the image in its data set.
        method (str): Name of the method in the settings.

    Returns:
        *Path*: A PNG.
    """
    return folder / "maps" / image / f"{method}.png"


def check_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but results of the same settings.

    Args:
        folder (Path): Of the run; it need not exist.
        settings (Mapping): All that determines the results.

    Raises:
        ValueError: If it holds results of other settings, with what differs, or is no
            folder of a run.
    """
    file = folder / "settings.json"
    if not file.is_file():
        visible = folder.is_dir() and [p for p in folder.iterdir() if p.name[0] != "."]
        if visible or (folder.exists() and not folder.is_dir()):
            raise ValueError(
                f"output must be a new or empty folder, or one with results of the "
                f"same settings, got {str(folder)!r}, which holds something else."
            )
        return
    there = _flat(_read_settings(folder)["settings"])
    here = _flat(json.loads(json.dumps(settings)))
    differences = [
        f"{name} is {_shown(there.get(name))} there and {_shown(here.get(name))} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name) or (name in there) != (name in here)
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"output {str(folder)!r} holds results of other settings: "
            f"{', '.join(differences[:3])}{more}."
        )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Values of nested dicts by their dotted names."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        flat |= _flat(entry, f"{name}.{key}" if name else key)
    return flat


def _shown(value: object) -> str:
    text = str(value)
    # The first digits of a hash tell enough.
    return text if len(text) <= 40 else f"{text[:12]}..."


def begin_run(
    folder: Path, settings: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write the settings of a run, or add to those that are there that it goes on.

    Args:
        folder (Path): Of the run.
        settings (Mapping): All that determines the results.
        provenance (Mapping): What else there is to know about this start.

    Raises:
        OSError: If the folder cannot be written.
    """
    content: dict[str, Any] = {"settings": settings, "provenance": dict(provenance)}
    if (folder / "settings.json").is_file():
        content = _read_settings(folder)
        restarts = content["provenance"].setdefault("restarts", [])
        restarts.append(dict(provenance))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # First, since it is what tells a folder of a run from any other.
        settings_file = json.dumps(content, indent=2).encode()
        write_file(settings_file, folder / "settings.json")
        (folder / "parts").mkdir(exist_ok=True)
    except OSError as error:
        raise OSError(
            f"output {str(folder)!r} cannot be written ({error.strerror or error})."
        ) from error


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "settings.json").read_bytes())
        return {name: dict(content[name]) for name in ("settings", "provenance")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"settings.json in {str(folder)!r} is damaged ({error})."
        ) from error


class RowWriter:
    """Appends rows to a part that no other process writes to.

    A line is handed to the system at once, so that nothing but the line in hand is
    lost when the process is killed.

    Args:
        folder (Path): Of the run.
        rank (int): Of the process; several starts of it get a part each.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        for n in count():
            suffix = f"-{n}" if n else ""
            path = folder / "parts" / f"rank-{rank}{suffix}.jsonl"
            try:
                self._file = open(path, "xb", buffering=0)
                break
            except FileExistsError:
                continue

    def append(self, row: Row) -> None:
        """Write a row."""
        content = row._asdict()
        if row.curve is not None:
            content["curve"] = [round(score, _DIGITS) for score in row.curve]
        line = json.dumps(content, allow_nan=False).encode() + b"\n"
        if self._file.write(line) != len(line):
            raise OSError(f"{self._file.name} cannot be written: the disk is full.")

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def read_rows(folder: Path) -> dict[Key, Row]:
    """All rows of a run, each once.

    Args:
        folder (Path): Of the run.

    Returns:
        *dict[Key, Row]*: Rows by image, method and metric. Of several rows of one key
        the first counts, and one with a value before one with an error.

    Raises:
        ValueError: If a line within a part is no row.
    """
    rows: dict[Key, Row] = {}
    for part in sorted((folder / "parts").glob("*.jsonl")):
        *lines, _torn = part.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                row = Row(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {str(part)!r} is damaged ({error}): remove it, "
                    f"and the row is computed again."
                ) from error
            known = rows.get(row.key)
            if known is None or (known.error and not row.error):
                rows[row.key] = row
    return rows


def merge(folder: Path, images: Iterable[str]) -> None:
    """Write the tables of a run all of whose rows are there.

    Args:
        folder (Path): Of the run.
        images (iterable of str): Names of all images in the order of the data set.

    Raises:
        ValueError: If a row is missing.
    """
    settings = _read_settings(folder)["settings"]
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
    table = table.astype(_CLASSES)
    timings = pd.DataFrame(rows, columns=Row._fields)[["image", "method", "seconds"]]
    timings = timings.drop_duplicates(["image", "method"])
    _write_table(folder / "curves.csv", _curve_table(rows))
    _write_table(folder / "timings.csv", timings)
    # Last, since it is what says that the run is complete.
    _write_table(folder / "results.csv", table)


def _curve_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Curves by image, method and metric; metrics may have taken other shares."""
    curves = [row for row in rows if row.curve]
    index = pd.MultiIndex.from_tuples([row.key for row in curves], names=_KEY)
    if not curves:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * 3, names=_KEY))
    tables = []
    by_length = sorted(curves, key=lambda row: len(row.curve or ()))
    for n, group in groupby(by_length, lambda row: len(row.curve or ())):
        same = list(group)
        shares = np.linspace(0, 1, n).round(_DIGITS)
        keys = pd.MultiIndex.from_tuples([row.key for row in same], names=_KEY)
        tables.append(pd.DataFrame([r.curve for r in same], keys, shares))
    joined = pd.concat(tables)
    return joined[sorted(joined.columns)].reindex(index)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    keyed = table.index.names != [None]
    write_file(table.to_csv(index=keyed, lineterminator="\n").encode(), path)


def read_results(folder: str | Path) -> Results:
    """The results of a run that is complete.

    Args:
        folder (str or Path): What the run wrote.

    Returns:
        *Results*: ``(table, curves, timings, settings, provenance)``.

    Raises:
        ValueError: If there are no results in the folder, or the run is not complete.
    """
    folder = Path(folder)
    if not (folder / "settings.json").is_file():
        raise ValueError(
            f"results must be a folder that an evaluation wrote, got {str(folder)!r}."
        )
    if not (folder / "results.csv").is_file():
        raise ValueError(
            f"results in {str(folder)!r} are not complete: start the evaluation again "
            f"with the same settings, and it goes on."
        )
    curves = _read_table(folder / "curves.csv").set_index(_KEY)
    return Results(
        _read_table(folder / "results.csv"),
        curves.set_axis(curves.columns.astype(float), axis="columns"),
        _read_table(folder / "timings.csv"),
        **_read_settings(folder),
    )


def _read_table(path: Path) -> pd.DataFrame:
    # Read as text first: without this, an image called "NA" would be no image, and
    # some releases of pandas round the last digit of numbers.
    table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    numbers = {name: _CLASSES.get(name, "float64") for name in table}
    return table.astype({name: numbers[name] for name in {*table} - _TEXTS})
