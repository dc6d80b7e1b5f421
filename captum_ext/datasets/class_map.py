"""Class maps: classes of a model by the class names of a data set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from captum_ext.datasets.image_files import existing_path

__all__ = ["ClassMap", "classes_by_name", "read_class_map"]

ClassMap = Mapping[str, Sequence[int]]


def read_class_map(file: str | Path) -> dict[str, tuple[int, ...]]:
    """Read the classes of a model that match each class name of a data set.

    Args:
        file (str or Path): Text file with one class of the model per line, its index
            and the name in the data set: ``404 aeroplane``. Several classes may share
            a name.

    Returns:
        *dict*: Class indices by name.

    Raises:
        ValueError: If the file does not exist, or a line has another form.
    """
    file = existing_path(file, "file")
    indices = defaultdict(list)
    for line in filter(None, map(str.strip, file.read_text("utf-8").splitlines())):
        index, _, name = line.partition(" ")
        if not index.isdecimal() or not name:
            raise ValueError(
                f"class map must have lines of an index and a name, got {line!r} in "
                f"{str(file)!r}."
            )
        indices[name.strip()].append(int(index))
    return {name: tuple(each) for name, each in indices.items()}


def classes_by_name(
    class_names: Sequence[str], class_map: ClassMap | None
) -> dict[str, tuple[int, ...]]:
    """Class indices by lowercase name; all classes that share a name count."""
    if class_map is not None:
        return {name.lower(): tuple(each) for name, each in class_map.items()}
    known = defaultdict(list)
    for i, name in enumerate(class_names):
        known[name.lower()].append(i)
    return {name: tuple(each) for name, each in known.items()}
