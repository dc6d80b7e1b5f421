"""A function of somebody's own Python file, named FILE.py:FUNCTION."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["function_in_file"]


def function_in_file(name: str) -> Callable[..., Any]:
    """Run a Python file and take a function from it.

    As in a script, the file may import those beside it, and what stands below
    ``if __name__ == "__main__"`` is not run. Its own errors are passed on as they are.

    Args:
        name (str): ``FILE.py:FUNCTION``.

    Returns:
        *Callable*: The function.

    Raises:
        ValueError: If there is no such file, or no such function in it.

    Examples::

        >>> from pathlib import Path
        >>> Path("own.py").write_text("def double(x): return 2 * x") and None
        >>> function_in_file("own.py:double")(21)
        42
    """
    file, _, wanted = name.rpartition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise ValueError(
            f"name must be FILE.py:FUNCTION of an existing file, got {name!r}."
        )
    beside = str(path.parent)
    sys.path.insert(0, beside)
    try:
        found = runpy.run_path(str(path), run_name=path.stem)
    finally:
        sys.path.remove(beside)
    function = found.get(wanted)
    if not callable(function):
        raise ValueError(
            f"name must end in a function that is in {file}, got {name!r}."
        )
    return function
