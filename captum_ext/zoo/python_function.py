"""Find a function by a name such as FILE.py:FUNCTION or MODULE:FUNCTION."""

import pkgutil
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["find_function"]


def find_function(name: str) -> Callable[..., Any]:
    """Find a function in a Python file or in an importable module.

    A file is run as a module, so that code below ``if __name__ == "__main__"`` is
    skipped, and may import modules from its own folder. Errors raised by the file
    propagate unchanged.

    Args:
        name (str): ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.

    Returns:
        Callable: The function.

    Raises:
        ValueError: If the file, the module or the function does not exist.

    Examples::

        >>> from pathlib import Path
        >>> Path("own.py").write_text("def double(x): return 2 * x") and None
        >>> find_function("own.py:double")(21)
        42
        >>> find_function("math:sqrt")(4.0)
        2.0
    """
    source, _, function = name.rpartition(":")
    if source.endswith(".py"):
        found = _run_file(Path(source).resolve()).get(function)
    else:
        try:
            found = pkgutil.resolve_name(name) if function else None
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"name must be FILE.py:FUNCTION or MODULE:FUNCTION, got {name!r} "
                f"({error})."
            ) from error
    if not callable(found):
        raise ValueError(f"name must end in a function of {source}, got {name!r}.")
    return found


def _run_file(path: Path) -> dict[str, Any]:
    """Run a file with its folder on the module search path; return its globals."""
    if not path.is_file():
        raise ValueError(
            f"name must be FILE.py:FUNCTION of an existing file, got {str(path)!r}."
        )
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        return runpy.run_path(str(path), run_name=path.stem)
    finally:
        sys.path.remove(folder)
