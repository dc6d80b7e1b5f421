"""The public API, one line per name, compared with the file public_api.txt.

    python tests/public_api.py

writes the file. Its diff shows what changes for users.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

import captum_ext
from captum_ext._files import write_file

FILE = Path(__file__).with_suffix(".txt")
COMMAND = "python tests/public_api.py"


def rooms() -> list[str]:
    """Public packages and modules directly below the package."""
    names = (module.name for module in pkgutil.iter_modules(captum_ext.__path__))
    return [f"captum_ext.{name}" for name in names if not name.startswith("_")]


def public_api() -> list[str]:
    """All public names with their arguments and defaults."""
    return [
        line
        for room in rooms()
        for module in [importlib.import_module(room)]
        for name in sorted(module.__all__)
        for line in described(f"{room}.{name}", getattr(module, name))
    ]


def described(name: str, value: object) -> Iterator[str]:
    """The lines of one name: one, and for a class one more per public method."""
    # In Python 3.10, inspect.isclass is true for aliases such as list[int].
    if inspect.isclass(value) and get_origin(value) is None:
        yield name + arguments(value)
        for method in sorted(methods(value)):
            member = getattr(value, method)
            shown = "" if isinstance(member, property) else arguments(member)
            yield f"{name}.{method}{shown}"
    elif inspect.isroutine(value):
        yield name + arguments(value)
    else:
        yield name


def methods(cls: type) -> set[str]:
    """Public methods and properties defined in the package, including bases."""
    return {
        name
        for base in cls.__mro__
        if base.__module__.startswith("captum_ext")
        for name, value in vars(base).items()
        if (name == "__call__" or not name.startswith("_"))
        and (inspect.isroutine(value) or isinstance(value, property))
    }


def arguments(function: object) -> str:
    """Signature without annotations, which differ between Python versions."""
    signature = inspect.signature(inspect.unwrap(function))
    bare = [
        parameter.replace(annotation=parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))


if __name__ == "__main__":
    write_file("".join(f"{line}\n" for line in public_api()).encode(), FILE)
