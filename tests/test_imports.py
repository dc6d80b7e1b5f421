"""Imports run one way, and public names are where they are said to be."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import captum_ext

ROOT = Path(captum_ext.__file__).parent

# What hides, believes, trains, metrics, draws and provides knows nothing of what
# explains; what explains knows nothing of what uses explanations.
_USERS = ("attr", "methods", "evaluation", "commands", "cli")
FORBIDDEN = {
    "masks": _USERS,
    "surrogate": _USERS,
    "masking": _USERS,
    "metrics": (*_USERS, "surrogate", "masking", "visualization", "zoo"),
    "visualization": _USERS,
    "zoo": _USERS,
    "attr": (*_USERS[1:], "zoo", "visualization", "metrics"),
    "methods": _USERS[2:],
    "evaluation": _USERS[3:],
}
PRIVATE_CAPTUM = "captum_ext._captum"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names that a module imports, wherever in the file it does so.

    ``from a import b`` gives a.b, which is right for a module b and tells a name b.
    """
    parts = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = parts[: len(parts) + is_package - node.level]
            origin = [*package] if node.level else []
            origin += node.module.split(".") if node.module else []
            yield from (".".join([*origin, alias.name]) for alias in node.names)


SOURCES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
IMPORTS = {
    name: set(imported(ast.parse(path.read_text()), name, path.stem == "__init__"))
    for name, path in SOURCES.items()
}


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


def within(name: str, room: str) -> bool:
    return f"{name}.".startswith(f"captum_ext.{room}.")


@pytest.mark.parametrize(
    "source, module, is_package, expected",
    [
        ("import captum._utils.common as c", "p.m", False, {"captum._utils.common"}),
        ("from captum.attr import _core", "p.m", False, {"captum.attr._core"}),
        ("from . import a, b", "p.q.m", False, {"p.q.a", "p.q.b"}),
        ("from .a import b", "p.q", True, {"p.q.a.b"}),
        ("from ..a import b", "p.q.m", False, {"p.a.b"}),
        ("def f():\n    if x:\n        import os.path", "p.m", False, {"os.path"}),
    ],
)
def test_imports_are_read_in_every_form(source, module, is_package, expected):
    assert set(imported(ast.parse(source), module, is_package)) == expected


def test_rooms_are_known():
    """A package that is added says here whom it may use."""
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms <= {*FORBIDDEN, "commands"}


@pytest.mark.parametrize("room", [r for r in FORBIDDEN if (ROOT / r).is_dir()])
def test_imports_run_one_way(room):
    wrong = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in sorted(names)
        if within(module, room) and any(within(name, r) for r in FORBIDDEN[room])
    ]
    assert not wrong


def test_one_module_imports_captum_s_private_names():
    private = {
        module
        for module, names in IMPORTS.items()
        for name in names
        if name.split(".")[0] == "captum" and not is_public(name)
    }
    assert private == {PRIVATE_CAPTUM}


def test_one_room_opens_the_door_to_gaussian_processes():
    """Only surrogate imports gpytorch and botorch."""
    inside = [
        module
        for module, names in IMPORTS.items()
        if any(n.split(".")[0] in ("gpytorch", "botorch") for n in names)
    ]
    assert all(within(module, "surrogate") for module in inside)


@pytest.mark.parametrize("module", SOURCES)
def test_names_of_modules_say_what_they_hold(module):
    """A bag of helpers belongs to the concepts that it helps."""
    last = module.split(".")[-1].strip("_")
    assert last not in ("utils", "util", "helpers", "helper", "common", "misc")


@pytest.mark.parametrize("module", [m for m in SOURCES if "__main__" not in m])
def test_all_lists_names_that_exist(module):
    loaded = importlib.import_module(module)
    names = loaded.__all__
    assert len(set(names)) == len(names)
    assert not [name for name in names if not hasattr(loaded, name)]
