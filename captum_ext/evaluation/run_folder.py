"""The folder of a run: settings, and rows that are written as they are computed.

==================  ==========================================================
settings.json       ``settings`` determine the results, ``provenance`` does not
class_names.json    names of the classes by their index
parts/*.jsonl       one line per image, method and metric; each process appends
                    to its own file, so that none can damage another's
images/, maps/      images as the model sees them, maps drawn over them, and maps
                    as arrays
results.csv         the table, merged once all rows are computed
curves.csv          curves of the metrics that have one
timings.csv         seconds per map
.lock               locked while a run writes to the folder
==================  ==========================================================

Files other than the parts are written atomically. A line without an end, from a killed
process, is ignored.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from captum_ext._files import write_file

__all__ = [
    "CURVE_DIGITS",
    "Key",
    "Row",
    "RowWriter",
    "check_folder",
    "image_path",
    "kept_specs",
    "map_path",
    "read_class_names",
    "read_rows",
    "read_settings",
    "start_run",
]

Key = tuple[str, str | None, str | None]

# Settings to which a run may add.
_EXTENDABLE = ("methods", "metrics")
# Settings that a run has only if one of its methods needs them.
_OF_SOME_METHODS = ("layer", "stages", "masking_network")

CURVE_DIGITS = 6
"""Digits of curves, which are only plotted: a third of the length of all digits."""


class Row(NamedTuple):
    """Result for an image, method and metric, or an image that is left out.

    Attributes:
        image (str): Name of the image in its data set.
        label (int, optional): Correct class.
        target (int, optional): Explained class.
        probability (float, optional): Probability of the target.
        method (str, optional): Name in the settings; None for an image that is left
            out.
        metric (str, optional): Name in the settings; None for an image that is left
            out.
        value (float, optional): Value of the metric; None after an error.
        error (str, optional): Message of the error, in one line.
        curve (list of float, optional): Scores at equally spaced shares of the pixels.
        seconds (float, optional): Time that the map took.
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
        """Image, method and metric, which identify a row."""
        return self.image, self.method, self.metric


def image_path(folder: Path, image: str) -> Path:
    """Path of an image as the model sees it.

    Args:
        folder (Path): Folder of the run.
        image (str): Name of the image in its data set.

    Returns:
        *Path*: Path of a JPEG file.
    """
    return folder / "images" / f"{image}.jpg"


def map_path(folder: Path, image: str, method: str, suffix: str = ".png") -> Path:
    """Path of a map drawn over its image, or of its array.

    Args:
        folder (Path): Folder of the run.
        image (str): Name of the image in its data set.
        method (str): Name of the method in the settings.
        suffix (str, optional): ".png" for the drawn map, ".npz" for the array.
            Default: ".png"

    Returns:
        *Path*: Path of the file.
    """
    return folder / "maps" / image / f"{method}{suffix}"


def kept_specs(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the methods and metrics of a run, to which others may be added.

    Args:
        folder (Path): Folder of the run; it need not exist.

    Returns:
        *dict*: Plain dicts by name for "methods" and "metrics"; empty without a run.

    Raises:
        ValueError: If the file of the settings is damaged.
    """
    is_run = (folder / "settings.json").is_file()
    settings = read_settings(folder)["settings"] if is_run else {}
    return {kind: settings.get(kind, {}) for kind in _EXTENDABLE}


def check_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise an error if a folder holds anything but results of the same settings.

    Methods and metrics may be more than there, see :func:`kept_specs`, and with them
    the first layer or masking network.

    Args:
        folder (Path): Folder of the run; it need not exist.
        settings (Mapping): Settings that determine the results.

    Raises:
        ValueError: If it holds results of other settings, which the message lists, or
            other files.
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
    found = read_settings(folder)["settings"]
    given = json.loads(json.dumps(settings))
    for kind in found.keys() & given.keys() & {*_EXTENDABLE}:
        given[kind] = {n: given[kind][n] for n in given[kind] if n in found[kind]}
    for name in _OF_SOME_METHODS:
        if found.get(name) is None:
            found.pop(name, None)
            given.pop(name, None)
    there, here = _flat(found), _flat(given)
    differences = [
        f"{name} is {_abbreviated(there.get(name))} there and "
        f"{_abbreviated(here.get(name))} here"
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
    """Flatten nested dicts to values by dotted names."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        flat |= _flat(entry, f"{name}.{key}" if name else key)
    return flat


def _abbreviated(value: object) -> str:
    text = str(value)
    # The first digits of a hash are enough.
    return text if len(text) <= 40 else f"{text[:12]}..."


def start_run(
    folder: Path,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    class_names: Sequence[str] = (),
) -> None:
    """Write the settings of a run, and record in them that a run resumes.

    Args:
        folder (Path): Folder of the run.
        settings (Mapping): Settings that determine the results.
        provenance (Mapping): Versions, hardware, command and time of this start.
        class_names (sequence of str, optional): Names by the index of the class, for
            reports. Default: () (unknown)

    Raises:
        OSError: If the folder cannot be written.
    """
    content: dict[str, Any] = {"settings": settings, "provenance": dict(provenance)}
    if (folder / "settings.json").is_file():
        content = read_settings(folder) | {"settings": settings}
        restarts = content["provenance"].setdefault("restarts", [])
        restarts.append(dict(provenance))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written first: this file marks the folder as that of a run.
        settings_file = json.dumps(content, indent=2).encode()
        write_file(settings_file, folder / "settings.json")
        (folder / "parts").mkdir(exist_ok=True)
        names_file = json.dumps([*class_names], indent=1).encode()
        write_file(names_file, folder / "class_names.json")
    except OSError as error:
        raise OSError(
            f"output {str(folder)!r} cannot be written ({error.strerror or error})."
        ) from error


def read_class_names(folder: Path) -> tuple[str, ...]:
    """Read the names of the classes.

    Args:
        folder (Path): Folder of the run.

    Returns:
        *tuple of str*: Names by the index of the class; empty if the run has none.

    Raises:
        ValueError: If the file is damaged.
    """
    file = folder / "class_names.json"
    if not file.is_file():
        return ()
    try:
        return tuple(map(str, json.loads(file.read_bytes())))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{str(file)!r} is damaged ({error}).") from error


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings and the provenance of a run.

    Args:
        folder (Path): Folder of the run.

    Returns:
        *dict*: Dicts ``settings`` and ``provenance``.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        content = json.loads((folder / "settings.json").read_bytes())
        return {name: dict(content[name]) for name in ("settings", "provenance")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"settings.json in {str(folder)!r} is damaged ({error})."
        ) from error


class RowWriter:
    """Appends rows to a file that no other process writes to.

    Lines are written unbuffered, so that a killed process loses at most one.

    Args:
        folder (Path): Folder of the run.
        rank (int): Rank of the process; each start of it gets its own file.
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
        """Append a row."""
        content = row._asdict()
        if row.curve is not None:
            content["curve"] = [round(score, CURVE_DIGITS) for score in row.curve]
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
    """Read all rows of a run, without duplicates.

    Args:
        folder (Path): Folder of the run.

    Returns:
        *dict[Key, Row]*: Rows by image, method and metric. Of several rows with one
        key, the first with a value counts, or else the first.

    Raises:
        ValueError: If a line of a part is not a row.
    """
    rows: dict[Key, Row] = {}
    for part in sorted((folder / "parts").glob("*.jsonl")):
        *lines, _torn = part.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                row = Row(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {str(part)!r} is damaged ({error}): remove it "
                    f"to compute the row again."
                ) from error
            known = rows.get(row.key)
            if known is None or (known.error and not row.error):
                rows[row.key] = row
    return rows
