"""Public names and arguments change only together with public_api.txt."""

import importlib
import inspect
import pkgutil
from difflib import unified_diff

import pytest
from public_api import COMMAND, FILE, arguments, described, public_api, rooms

import captum_ext


def modules() -> list[str]:
    """All modules, including private ones, except ``__main__``."""
    found = pkgutil.walk_packages(captum_ext.__path__, "captum_ext.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def test_public_names_equal_those_in_the_file():
    frozen, now = FILE.read_text().splitlines(), public_api()
    changes = "\n".join(unified_diff(frozen, now, FILE.name, "the code", n=0))
    assert not changes, (
        f"the public API has changed:\n{changes}\nIf this is intended, write the file "
        f"again by `{COMMAND}` and add the change to CHANGELOG.md."
    )


@pytest.mark.parametrize("name", modules())
def test_names_are_public_or_have_an_underscore(name):
    """Classes and functions of a module are in ``__all__`` or have an underscore."""
    module = importlib.import_module(name)
    own = {
        member
        for member, value in vars(module).items()
        if not member.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
    }
    assert own <= set(module.__all__)


def test_rooms_are_public_modules():
    assert {"captum_ext.attr", "captum_ext.masks", "captum_ext.methods"} <= set(rooms())
    assert not [room for room in rooms() if "._" in room]


class Base:
    def __init__(self, size: int, *, mode: str = "new") -> None:
        pass

    @property
    def height(self) -> int:
        return 0

    def grow(self, by: "int | None" = None) -> None:
        pass

    def _hidden(self) -> None:
        pass


def test_lines_of_a_class(monkeypatch):
    monkeypatch.setattr(Base, "__module__", "captum_ext.example")
    assert list(described("room.Base", Base)) == [
        "room.Base(size, *, mode='new')",
        "room.Base.grow(self, by=None)",
        "room.Base.height",
    ]


def test_lines_of_other_names():
    assert list(described("room.f", arguments)) == ["room.f(function)"]
    assert list(described("room.NUMBER", 7)) == ["room.NUMBER"]
    assert list(described("room.Names", list[str])) == ["room.Names"]


def test_arguments_of_a_decorated_method():
    from captum_ext.attr import RISE

    assert arguments(RISE.attribute).startswith("(self, inputs, baselines=None, ")
