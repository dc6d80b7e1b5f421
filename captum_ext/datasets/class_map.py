"""Which classes of a model count as a class of a data set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from captum_ext.datasets.image_files import existing

__all__ = ["ClassMap", "classes_by_name", "read_class_map"]

ClassMap = Mapping[str, Sequence[int]]


def read_class_map(file: str | Path) -> dict[str, tuple[int, ...]]:
    """Which classes of the model count as a class of the data set.

    Args:
        file (str or Path): Text with one class of the model in a line, its number and
            the name in the data set: ``404 aeroplane``. Several may have one name.

    Returns:
        *dict*: Numbers by name.

    Raises:
        ValueError: If there is no such file, or a line is something else.
    """
    file = existing(file, "file")
    numbers = defaultdict(list)
    for line in filter(None, map(str.strip, file.read_text().splitlines())):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name:
            raise ValueError(
                f"class map must have lines of a number and a name, got {line!r} in "
                f"{str(file)!r}."
            )
        numbers[name.strip()].append(int(number))
    return {name: tuple(each) for name, each in numbers.items()}


def classes_by_name(
    class_names: Sequence[str], class_map: ClassMap | None
) -> dict[str, tuple[int, ...]]:
    """Classes by their name in lower case; several of one name all count."""
    if class_map is not None:
        return {name.lower(): tuple(each) for name, each in class_map.items()}
    known = defaultdict(list)
    for i, name in enumerate(class_names):
        known[name.lower()].append(i)
    return {name: tuple(each) for name, each in known.items()}
