"""Imports follow the order of the rooms, files stay small, ``__all__`` is complete."""

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import captum_ext

PACKAGE = Path(captum_ext.__file__).parent
ROOT = PACKAGE.parent

# Which shared private modules a shared private module imports. Rooms import any.
SHARED: dict[str, tuple[str, ...]] = {
    "_allocator": (),
    "_captum": (),
    "_progress": ("_captum",),
    "_extras": (),
    "_files": (),
    "_distances": (),
    "_interpolation": (),
    "_processes": (),
    "_suggestions": (),
    "_state_dicts": ("_extras",),
    "_warnings": (),
    "_modes": ("_captum", "_warnings"),
    "_type_checks": (),
    "_validation": ("_captum", "_suggestions", "_type_checks"),
    "_activations": ("_validation",),
    "_outputs": ("_captum",),
    "_scores": ("_captum", "_modes", "_outputs", "_progress", "_validation"),
}
# Which other rooms a room imports. A room comes after all that it imports.
ROOMS: dict[str, tuple[str, ...]] = {
    "targets": (),
    "masks": (),
    "metrics": ("masks",),
    "visualization": (),
    "surrogate": (),
    "masking": (),
    "zoo": ("masking",),
    "attr": ("targets", "masks", "surrogate", "masking"),
    "subject": ("masks", "masking", "zoo", "attr"),
    "methods": ("masks", "metrics", "zoo", "attr", "subject"),
    "datasets": ("zoo",),
    "evaluation": (
        *("masks", "metrics", "visualization", "zoo", "attr", "subject", "methods"),
        "datasets",
    ),
    "report": ("visualization", "methods", "evaluation"),
    "commands": (
        *("visualization", "masking", "zoo", "attr", "subject", "methods"),
        *("datasets", "evaluation", "report"),
    ),
    "cli": ("commands",),
    "__main__": ("cli",),
}
# The functional and the class side of one thing.
SAME_NAME: set[str] = set()
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 50
# Libraries that cost more than the rest of the import together, and those of extras.
HEAVY = ("torchvision", "scipy", "skimage", "gpytorch", "botorch")
EXTRAS = (
    *("pandas", "jinja2", "pycocotools", "av"),
    *("timm", "transformers", "onnxruntime", "safetensors"),
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names that a module imports anywhere in the file.

    ``from a import b`` gives a.b, whether b is a module or a name.
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


PATHS = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
SOURCES = {name: path.read_text(encoding="utf-8") for name, path in PATHS.items()}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
IMPORTS = {
    name: set(imported(tree, name, PATHS[name].stem == "__init__"))
    for name, tree in TREES.items()
}


def graph_of(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """For each module of the package, the modules of the package that it imports."""
    graph: dict[str, set[str]] = {}
    for module, names in imports.items():
        found = (n if n in imports else n.rpartition(".")[0] for n in names)
        graph[module] = {name for name in found if name in imports}
    return graph


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules along a cycle of imports; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def room_of(module: str) -> str:
    """``masks`` of ``captum_ext.masks.grid``; empty for the package itself."""
    return ".".join(module.split(".")[1:2])


def wrong_arrows(graph: dict[str, set[str]]) -> list[str]:
    """Imports that the tables of rooms and shared modules do not allow."""
    allowed = {
        **{room: {*SHARED[room]} for room in SHARED},
        **{room: {*SHARED, *ROOMS[room]} for room in ROOMS},
    }
    return [
        f"{module} imports {name}"
        for module, names in graph.items()
        for name in sorted(names)
        # The package itself holds only its version.
        if room_of(name) and room_of(name) not in {room_of(module)}
        if room_of(name) not in allowed.get(room_of(module), set())
    ]


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


@pytest.mark.parametrize(
    "source, module, is_package, expected",
    [
        ("import captum._utils.common as c", "p.m", False, {"captum._utils.common"}),
        ("from captum.attr import _core", "p.m", False, {"captum.attr._core"}),
        ("from . import a, b", "p.q.m", False, {"p.q.a", "p.q.b"}),
        ("from .a import b", "p.q", True, {"p.q.a.b"}),
        ("from ..a import b", "p.q.m", False, {"p.a.b"}),
        ("def f():\n    if x:\n        import os.path", "p.m", False, {"os.path"}),
        ("if TYPE_CHECKING:\n    from a import B", "p.m", False, {"a.B"}),
    ],
)
def test_imports_are_read_in_every_form(source, module, is_package, expected):
    assert set(imported(ast.parse(source), module, is_package)) == expected


def test_cycles_and_wrong_arrows_are_found():
    names = {
        "captum_ext": set(),
        "captum_ext.masks": {"captum_ext.masks.grid.GridLayout"},
        "captum_ext.masks.grid": {"captum_ext.masks.MaskLayout", "torch.Tensor"},
        "captum_ext._files": {"captum_ext._captum"},
        "captum_ext._captum": {"captum_ext.__version__"},
    }
    graph = graph_of(names)
    assert set(cycle_in(graph)) == {"captum_ext.masks", "captum_ext.masks.grid"}
    assert wrong_arrows(graph) == ["captum_ext._files imports captum_ext._captum"]
    del names["captum_ext.masks.grid"]
    assert not cycle_in(graph_of(names))


def test_every_module_belongs_to_a_room_in_order():
    assert {room_of(module) for module in PATHS} - {""} <= {*SHARED, *ROOMS}
    for table in (SHARED, ROOMS):
        order = list(table)
        for room, others in table.items():
            assert {*others} <= {*order[: order.index(room)]}, room


def test_imports_have_no_cycle():
    """Imports for type checkers and within functions count as well."""
    cycle = cycle_in(graph_of(IMPORTS))
    assert not cycle


def test_imports_follow_the_order_of_the_rooms():
    wrong = wrong_arrows(graph_of(IMPORTS))
    assert not wrong


def test_contributing_shows_the_order_of_the_rooms():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", text, re.MULTILINE)
    shown = {room: tuple(re.findall(r"`(\w+)`", others)) for room, others in rows}
    assert shown == {room: ROOMS[room] for room in ROOMS if room != "__main__"}
    assert list(shown) == [room for room in ROOMS if room != "__main__"]


def test_only_one_module_imports_captum_private_names():
    private = {
        module
        for module, names in IMPORTS.items()
        for name in names
        if name.split(".")[0] == "captum" and not is_public(name)
    }
    assert private == {"captum_ext._captum"}


def test_only_surrogate_imports_gpytorch_and_botorch():
    rooms = {
        room_of(module)
        for module, names in IMPORTS.items()
        if any(name.split(".")[0] in ("gpytorch", "botorch") for name in names)
    }
    assert rooms == {"surrogate"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name.split(".")[0] for name in loaded.split()}


@pytest.mark.parametrize("room", ["attr", "metrics"])
def test_rooms_import_no_heavy_library(room):
    added = modules_after(f"from captum_ext.{room} import *")
    added -= modules_after("import captum.attr")
    assert "captum_ext" in added
    assert not added & {*HEAVY, *EXTRAS}


def test_help_imports_no_command():
    help_of = (
        "import captum_ext.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: 0"
    )
    assert not modules_after(help_of) & {"torch", "captum", "numpy"}


def test_base_package_imports_without_the_packages_of_extras():
    missing = "".join(f"sys.modules[{name!r}] = None\n" for name in EXTRAS)
    rooms = [room for room in ROOMS if room not in ("evaluation", "report", "__main__")]
    commands = [f"commands.{name}" for name in ("demo", "explain", "refine", "train")]
    modules = ", ".join(f"captum_ext.{name}" for name in [*rooms, *commands])
    assert "captum_ext" in modules_after(f"{missing}import {modules}")


def repeated(names: Iterable[str]) -> dict[str, set[str]]:
    """File names that occur in several rooms, and these rooms."""
    rooms = defaultdict(set)
    for name in names:
        rooms[name.rpartition(".")[2]].add(room_of(name))
    return {name: found for name, found in rooms.items() if len(found) > 1}


def test_file_names_differ_between_rooms():
    files = [name for name, path in PATHS.items() if not path.stem.startswith("__")]
    assert {*repeated(files)} <= SAME_NAME


@pytest.mark.parametrize("module", PATHS)
def test_module_names_are_no_catch_alls(module):
    """Shared code belongs to the concept it serves."""
    last = module.split(".")[-1].strip("_")
    assert last not in ("utils", "util", "helpers", "helper", "common", "misc")


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> int:
    """Lines of a function without decorators, docstring, comments and blank lines."""
    start, first = function.lineno, function.body[0]
    lines = source.splitlines()[start - 1 : function.end_lineno]
    if ast.get_docstring(function) is not None:
        del lines[first.lineno - start : first.end_lineno - start + 1]
    return sum(not re.match(r"\s*(#|$)", line) for line in lines)


def test_only_code_counts_as_lines_of_a_function():
    source = '@d\ndef f(\n    x,\n):\n    """One.\n\n    Two.\n    """\n'
    source += "\n    # Why.\n    return x"
    assert code_lines(ast.parse(source).body[0], source) == 4


@pytest.mark.parametrize("module", PATHS)
def test_files_and_functions_are_short(module):
    n_lines = len(SOURCES[module].splitlines())
    assert n_lines <= MAX_FILE_LINES
    long = {
        node.name: n
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (n := code_lines(node, SOURCES[module])) > MAX_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("module", [m for m in PATHS if "__main__" not in m])
def test_all_lists_names_that_exist(module):
    loaded = importlib.import_module(module)
    names = loaded.__all__
    assert len(set(names)) == len(names)
    assert not [name for name in names if not hasattr(loaded, name)]
