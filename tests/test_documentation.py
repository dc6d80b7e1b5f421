"""Examples of docstrings and README run, and every public name is documented."""

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

import pytest
import torch
from torch import nn

import captum_ext

ROOT = Path(captum_ext.__file__).parent
# Examples may use names of these packages without an import.
AT_HAND = ("attr", "masks", "visualization", "zoo")
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def public_modules() -> Iterator[str]:
    yield "captum_ext"
    for module in pkgutil.walk_packages(captum_ext.__path__, "captum_ext."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            yield module.name


def public_objects() -> dict[str, object]:
    """Return modules, their public functions and classes, and the methods of these."""
    found: dict[str, object] = {}
    for name in public_modules():
        module = importlib.import_module(name)
        found[name] = module
        for member in getattr(module, "__all__", ()):
            value = getattr(module, member)
            # In Python 3.10, isclass is true for an alias such as list[int].
            alias = get_origin(value) is not None
            if alias or not (inspect.isclass(value) or inspect.isroutine(value)):
                continue
            defined_in = value.__module__.removeprefix("captum_ext.")
            found[f"{defined_in}.{member}"] = value
            if inspect.isclass(value):
                for method in own_methods(value):
                    found[f"{defined_in}.{member}.{method}"] = getattr(value, method)
    return found


def own_methods(cls: type) -> list[str]:
    """Public methods that the package defines, here or in a base class."""
    names = {
        name: None
        for base in cls.__mro__
        if base.__module__.startswith("captum_ext")
        for name, value in vars(base).items()
        if not name.startswith("_")
        and (inspect.isroutine(value) or isinstance(value, property))
    }
    return list(names)


OBJECTS = public_objects()
CALLABLES = {
    name: value
    for name, value in OBJECTS.items()
    if callable(value) and not inspect.isabstract(value)
}
# Names that users import from the packages.
EXPORTED = [
    getattr(module, name)
    for module in OBJECTS.values()
    if inspect.ismodule(module) and hasattr(module, "__path__")
    for name in getattr(module, "__all__", ())
]


def documentation(value: object) -> str:
    """Return the docstring, inherited for methods; "" if Python generated it."""
    if inspect.isclass(value):
        text = inspect.cleandoc(vars(value).get("__doc__") or "")
        return "" if text.startswith(f"{value.__name__}(") else text
    return inspect.getdoc(value) or ""


def documented_arguments(text: str) -> set[str] | None:
    """Return names under ``Args:`` or ``Attributes:``; None without either."""
    header = r"^(?:Args|Attributes):\n((?:[ ]+.*(?:\n|\Z)|\n)+)"
    section = re.search(header, text, re.MULTILINE)
    if section is None:
        return None
    entries = re.findall(r"^ {4}(\S.*?)(?: \(|:)", section[1], re.MULTILINE)
    return {name.strip(" *`\\") for entry in entries for name in entry.split(",")}


def namespace(value: object) -> dict[str, object]:
    names: dict[str, object] = {"torch": torch, "nn": nn}
    packages = [f"captum_ext.{room}" for room in AT_HAND if (ROOT / room).is_dir()]
    own = inspect.getmodule(value)
    for name in [*packages, *([own.__name__] if own else [])]:
        module = importlib.import_module(name)
        names |= {n: getattr(module, n) for n in getattr(module, "__all__", ())}
    return names


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Run in a temporary folder; restore the global generator."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield tmp_path


def example(name: str) -> doctest.DocTest:
    text = documentation(OBJECTS[name])
    parser = doctest.DocTestParser()
    return parser.get_doctest(text, namespace(OBJECTS[name]), name, name, 0)


WITH_EXAMPLES = [name for name, obj in OBJECTS.items() if ">>>" in documentation(obj)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Does.\n\nArgs:\n    x (int): A.\n        More: yes.\n    *y: B.", {"x", "y"}),
        (
            "Args:\n    a, b (int): A.\n\n    c (str): B.\n\nReturns:\n    d: D",
            set("abc"),
        ),
        ("Does nothing with args.", None),
    ],
)
def test_arguments_are_read(text, expected):
    assert documented_arguments(text) == expected


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, workplace):
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    result = runner.run(example(name), out=report.append)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("name", OBJECTS)
def test_public_names_have_a_docstring(name):
    text = documentation(OBJECTS[name])
    assert text and re.match(r"[^\n]+(\n\n|$)|Args:", text), (
        "a docstring must start with one line that says what the object is"
    )


@pytest.mark.parametrize("name", CALLABLES)
def test_arguments_are_documented(name):
    """If any argument is documented, all are, and exported names document theirs."""
    value = CALLABLES[name]
    parameters = set(inspect.signature(inspect.unwrap(value)).parameters) - {"self"}
    if getattr(value, "_is_protocol", False):
        parameters = set()  # A protocol is not called.
    arguments = documented_arguments(documentation(value))
    if arguments is not None or value in EXPORTED:
        assert (arguments or set()) == parameters


def pages() -> list[Path]:
    repository = ROOT.parent
    return [page for page in [repository / "README.md"] if page.is_file()]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_code_of_a_page_runs(page, workplace):
    """Run the ```python blocks of the page in order, in one namespace."""
    text = page.read_text()
    names: dict[str, object] = {"__name__": "__main__"}
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        lines_before = text.count("\n", 0, block.start(1))
        code = "\n" * lines_before + block[1]
        exec(compile(code, page.name, "exec"), names)
