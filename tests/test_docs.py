"""The pages under docs/: their code runs, and they leave no public name out."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import captum_ext

DOCS = Path(captum_ext.__file__).parent.parent / "docs"
PAGES = sorted(
    page for page in DOCS.rglob("*.md") if "_build" not in page.relative_to(DOCS).parts
)
ROOMS = (
    "attr",
    "evaluation",
    "masking",
    "masks",
    "methods",
    "metrics",
    "surrogate",
    "visualization",
    "zoo",
)
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CLASS = re.compile(r"\{py:class\}`(captum_ext\.\w+)\.(\w+)`")
_DEFAULT = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)
_DIRECTIVE = re.compile(r"^\.\. (?:auto|py:)(?:class|function|data):: (\S+)", re.M)
# What a browser would fetch while it shows a page; links may lead anywhere.
_LOADED = re.compile(
    r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="((?:\w+:)?//.*?)"'
)


def with_code() -> list[Path]:
    return [page for page in PAGES if _PYTHON.search(page.read_text())]


@pytest.mark.parametrize("page", with_code(), ids=lambda p: str(p.relative_to(DOCS)))
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """Its ```python blocks, one after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names: dict[str, object] = {"__name__": "__main__"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in _PYTHON.finditer(text):
            lines_before = text.count("\n", 0, block.start(1))
            exec(compile("\n" * lines_before + block[1], page.name, "exec"), names)


def arguments(cls: type) -> dict[str, object]:
    """Arguments of a class, and of its ``attribute``, with their defaults."""
    functions = [cls.__init__, inspect.unwrap(getattr(cls, "attribute", cls.__init__))]
    return {
        name: parameter.default
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
    }


def with_defaults() -> list[Path]:
    return [page for page in PAGES if _DEFAULT.search(page.read_text())]


@pytest.mark.parametrize("page", with_defaults(), ids=lambda page: page.stem)
def test_defaults_are_those_of_the_code(page):
    """Where a table of defaults gives one as it is typed, the code has the same."""
    text = page.read_text()
    known: dict[str, object] = {}
    for module, name in _CLASS.findall(text):
        known |= arguments(getattr(importlib.import_module(module), name))
    _, _, section = text.partition("## Defaults\n")
    for argument, here in _DEFAULT.findall(section.partition("\n## ")[0]):
        assert argument in known
        try:
            value = ast.literal_eval(here.strip("`"))
        except (SyntaxError, ValueError):
            continue  # Described in words.
        assert value == known[argument]


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_documented(room):
    """Each has a directive on its room's page, and no other name has."""
    module = importlib.import_module(f"captum_ext.{room}")
    directives = _DIRECTIVE.findall((DOCS / "api" / f"{room}.md").read_text())
    own = [name.removeprefix(f"captum_ext.{room}.") for name in directives]
    # Names of modules within the room may stand there too: what its functions return.
    assert sorted(name for name in own if "." not in name) == sorted(module.__all__)


def test_every_room_has_a_page():
    root = Path(captum_ext.__file__).parent
    rooms = {path.parent.name for path in root.glob("*/__init__.py")} - {"commands"}
    assert rooms <= set(ROOMS)
    assert {page.stem for page in (DOCS / "api").glob("*.md")} == set(ROOMS)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages as Sphinx builds them, warnings counting as errors."""
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
