"""Names and arguments that users rely on stay as they are, unless somebody says so."""

import importlib
import inspect
import pkgutil
from difflib import unified_diff

import pytest
from public_api import COMMAND, FILE, arguments, described, public_api, rooms

import captum_ext


def modules() -> list[str]:
    """Every module of every room, private ones too, but for what runs a package."""
    found = pkgutil.walk_packages(captum_ext.__path__, "captum_ext.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def test_public_names_are_those_of_the_file():
    frozen, now = FILE.read_text().splitlines(), public_api()
    changes = "\n".join(unified_diff(frozen, now, FILE.name, "the code", n=0))
    assert not changes, (
        f"what users import has changed:\n{changes}\nIf that is meant, write the file "
        f"anew by `{COMMAND}` and tell users in CHANGELOG.md."
    )


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_is_public(name):
    """All that a module defines is either in its ``__all__`` or has an underscore."""
    module = importlib.import_module(name)
    own = {
        member
        for member, value in vars(module).items()
        if not member.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
    }
    assert own <= set(module.__all__)


def test_rooms_are_what_users_import_from():
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


def test_a_decorated_method_shows_its_own_arguments():
    from captum_ext.attr import RISE

    assert arguments(RISE.attribute).startswith("(self, inputs, baselines=None, ")
