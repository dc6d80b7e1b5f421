"""Pages under docs/: their code runs, and they cover all public names."""

import ast
import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import captum_ext

README = Path(captum_ext.__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"
PAGES = sorted(
    page for page in DOCS.rglob("*.md") if "_build" not in page.relative_to(DOCS).parts
)
ROOMS = (
    "attr",
    "datasets",
    "evaluation",
    "masking",
    "masks",
    "methods",
    "metrics",
    "report",
    "subject",
    "surrogate",
    "targets",
    "visualization",
    "zoo",
)
ALL_FIGURES = 1500 * 1024
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CLASS = re.compile(r"\{py:class\}`(captum_ext\.\w+)\.(\w+)`")
_DEFAULT = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)
_DIRECTIVE = re.compile(r"^\.\. (?:auto|py:)(?:class|function|data):: (\S+)", re.M)
_FIGURE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")
# Resources that a browser loads to show a page; links may lead anywhere.
_LOADED = re.compile(
    r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="((?:\w+:)?//.*?)"'
)

_spec = importlib.util.spec_from_file_location("draw", DOCS / "draw_figures.py")
draw_figures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(draw_figures)


def with_code() -> list[Path]:
    return [page for page in PAGES if _PYTHON.search(page.read_text())]


@pytest.mark.parametrize("page", with_code(), ids=lambda p: str(p.relative_to(DOCS)))
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """Run the ```python blocks of a page in order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names: dict[str, object] = {"__name__": "__main__"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in _PYTHON.finditer(text):
            lines_before = text.count("\n", 0, block.start(1))
            exec(compile("\n" * lines_before + block[1], page.name, "exec"), names)


def arguments(cls: type) -> dict[str, object]:
    """Return arguments of a class and of its ``attribute``, with their defaults."""
    functions = [cls.__init__, inspect.unwrap(getattr(cls, "attribute", cls.__init__))]
    return {
        name: parameter.default
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
    }


def defaults(page: Path) -> list[tuple[str, str]]:
    """Return arguments and defaults in the table under "Arguments" of a page."""
    _, _, section = page.read_text().partition("## Arguments\n")
    return _DEFAULT.findall(section.partition("\n## ")[0])


WITH_DEFAULTS = [page for page in PAGES if defaults(page)]


def test_pages_of_methods_list_their_arguments():
    methods = {page.stem for page in PAGES if page.parent.name == "methods"}
    assert {page.stem for page in WITH_DEFAULTS} == methods - {"pn_rise"}  # As RISE.


@pytest.mark.parametrize("page", WITH_DEFAULTS, ids=lambda page: page.stem)
def test_defaults_are_those_of_the_code(page):
    """Literal defaults in the table of arguments are those of the code."""
    known: dict[str, object] = {}
    for module, name in _CLASS.findall(page.read_text()):
        known |= arguments(getattr(importlib.import_module(module), name))
    for argument, here in defaults(page):
        assert argument in known
        try:
            value = ast.literal_eval(here.strip("`"))
        except (SyntaxError, ValueError):
            continue  # Described in words.
        assert value == known[argument]


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_documented(room):
    """Each has a directive on its room's page or, if a method, on its own page."""
    module = importlib.import_module(f"captum_ext.{room}")
    directives = _DIRECTIVE.findall((DOCS / "api" / f"{room}.md").read_text())
    if room == "attr":
        for page in (DOCS / "methods").glob("*.md"):
            directives += _DIRECTIVE.findall(page.read_text())
    own = [name.removeprefix(f"captum_ext.{room}.") for name in directives]
    # Return types from modules within the package may also have directives.
    assert sorted(name for name in own if "." not in name) == sorted(module.__all__)


def test_every_room_has_a_page():
    root = Path(captum_ext.__file__).parent
    rooms = {path.parent.name for path in root.glob("*/__init__.py")} - {"commands"}
    assert rooms <= set(ROOMS)
    assert {page.stem for page in (DOCS / "api").glob("*.md")} == set(ROOMS)


def test_figures_are_those_that_the_command_draws():
    shown = {
        (page.parent / path).resolve()
        for page in [README, *PAGES]
        for path in _FIGURE.findall(page.read_text())
    }
    folder = DOCS / "figures"
    assert shown == {folder / f"{name}.png" for name in draw_figures.FIGURES}
    assert shown == set(folder.iterdir())
    sizes = [path.stat().st_size for path in shown]
    assert max(sizes) <= draw_figures.BYTES and sum(sizes) <= ALL_FIGURES


def test_a_figure_is_redrawn(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_figures, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["draw_figures.py", "cameras"])
    draw_figures.main()
    assert [path.name for path in tmp_path.iterdir()] == ["cameras.png"]
    with Image.open(tmp_path / "cameras.png") as new:
        with Image.open(DOCS / "figures" / "cameras.png") as stored:
            assert new.mode == stored.mode == "P" and new.size == stored.size


def test_an_unknown_figure_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["draw_figures.py", "portrait"])
    with pytest.raises(SystemExit):
        draw_figures.main()
    assert "names must be among photographs, methods," in capsys.readouterr().err


def shares(page: Path) -> dict[str, set[str]]:
    """Return numbers such as .395 in the tables of a page, by first cell of the row."""
    found: dict[str, set[str]] = {}
    for name, row in re.findall(r"^\| (.+?) \| (.+) \|$", page.read_text(), re.M):
        found.setdefault(name.removesuffix(" (Captum)"), set()).update(
            re.findall(r"(?<!\d)\.\d{3}\b", row)
        )
    return {name: numbers for name, numbers in found.items() if numbers}


def test_readme_has_the_numbers_of_the_results():
    quoted, measured = shares(README), shares(DOCS / "evaluation_results.md")
    assert {"RISE", "PN-RISE", "CAMERAS", "Random map"} <= set(quoted)
    assert all(numbers <= measured[name] for name, numbers in quoted.items())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the pages with Sphinx; warnings are errors."""
    for name in ("sphinx", "myst_parser", "furo", "sphinx-mathjax-offline"):
        pytest.importorskip(name, reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", folder / "doctrees", DOCS, folder / "html"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    loaded = {url for page in pages for url in _LOADED.findall(page.read_text())}
    assert pages and not loaded


def test_equations_are_set_by_a_file_of_the_site(site):
    page = site / "methods" / "rise.html"
    scripts = re.findall(r'<script[^>]* src="([^"]*mathjax[^"]*)"', page.read_text())
    assert scripts
    for script in scripts:
        assert (page.parent / script.partition("?")[0]).is_file()
