"""Pages under docs/: their code runs, and they cover all public names."""

import ast
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest
import torch
from PIL import Image

import captum_ext

README = Path(captum_ext.__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"
# Built pages and copies of the notebooks may lie among the sources.
COPIES = ("_build", "generated", "tutorials")
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if not set(COPIES) & set(page.relative_to(DOCS).parts)
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
_DATA = re.compile(r"^\.\. py:data:: (\S+)", re.M)
_LISTED = re.compile(r"^\.\. autosummary::\n(?: +:.*\n)*\n((?: {3}\S+\n)+)", re.M)
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
    """Run the ```python blocks of a page in order, in one namespace.

    Examples on photographs, whose classifier is `mobilenet`, need its weights.
    """
    monkeypatch.chdir(tmp_path)
    data = os.environ.get("CAPTUM_EXT_DATA")
    if data:
        weights = os.path.join(data, "models", "mobilenet_v2.pt")
        monkeypatch.setenv(draw_figures.WEIGHTS, weights)
    names: dict[str, object] = {"__name__": "__main__"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in draw_figures.code_blocks(page.read_text()):
            if data or "mobilenet." not in block:
                exec(compile(block, page.name, "exec"), names)


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
    """Each is listed once on its room's page, which gives it a page of its own."""
    module = importlib.import_module(f"captum_ext.{room}")
    text = (DOCS / "api" / f"{room}.md").read_text()
    listed = "".join(_LISTED.findall(text)).split()
    # Types from modules within the package may also be listed.
    own = [name for name in listed if "." not in name] + _DATA.findall(text)
    assert sorted(own) == sorted(module.__all__)


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
        # In tables of several networks the first row of each names it.
        numbers = re.findall(r"(?<!\d)\.\d{3}\b", row)
        found.setdefault(name.removeprefix("mobilenet_v2, "), set()).update(numbers)
    return {name: numbers for name, numbers in found.items() if numbers}


def test_readme_has_the_command_that_ci_runs():
    ci = (README.parent / ".ci/run").read_text()
    (pattern,) = re.findall(r"grep -m1 '(.+)' README.md", ci)
    command = pattern.strip("^$").replace("\\", "")
    assert command in README.read_text().splitlines()


def test_readme_has_the_numbers_of_the_results():
    quoted, measured = shares(README), shares(DOCS / "evaluation_results.md")
    assert {"PN-RISE, field", "lime", "CAMERAS", "Grad-CAM"} <= set(quoted)
    assert all(numbers <= measured[name] for name, numbers in quoted.items())


def test_extras_and_versions_are_those_of_the_installation():
    """The tables of install.md have all extras, and the lower bounds of versions."""
    settings = RawConfigParser()
    settings.read(README.parent / "setup.cfg")
    text = (DOCS / "install.md").read_text()
    extras = settings["options.extras_require"]
    described = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", text, re.M))
    assert set(described) == set(extras)
    for name in set(extras) - {"test", "dev"}:
        needed = re.findall(r"^(?:%\()?([\w-]+)", extras[name], re.M)
        assert described[name].replace("`", "").split(", ") == needed
    required = settings["options"]["install_requires"]
    bounds = dict(re.findall(r"^([\w-]+)>=([\d.]+)", required, re.M))
    versions = re.findall(r"^\| ([a-z-]+) \| ([\d.]+) \| [\d.]+ \|$", text, re.M)
    assert versions and dict(versions).items() <= bounds.items()


def test_links_of_the_package_index_are_absolute():
    spec = importlib.util.spec_from_file_location("setup", README.parent / "setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    text = setup.absolute_links(README.read_text(), "https://github.com/owner/name/")
    links = re.findall(r"\]\(([^)#][^)]*)\)", text)
    assert links and all(link.startswith("https://") for link in links)
    base = "https://github.com/owner/name"
    assert f"]({base}/raw/main/docs/figures/photographs.png)" in text
    assert f"]({base}/blob/main/docs/choosing.md)" in text
    files = re.findall(rf"\({base}/(?:raw|blob)/main/([^)#]+)", text)
    assert all((README.parent / file).exists() for file in files)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the pages with Sphinx, from a copy; warnings are errors."""
    for name in ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline"):
        pytest.importorskip(name, reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    for source in (DOCS, README.parent / "tutorials"):
        ignored = shutil.ignore_patterns(*COPIES) if source == DOCS else None
        shutil.copytree(source, folder / source.name, ignore=ignored)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", folder / "doctrees", folder / "docs", folder / "html"],
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


def test_every_class_metric_and_notebook_has_a_page_of_the_site(site):
    for room in ("attr", "metrics"):
        for name in importlib.import_module(f"captum_ext.{room}").__all__:
            page = site / "api" / "generated" / f"captum_ext.{room}.{name}.html"
            assert f'id="captum_ext.{room}.{name}"' in page.read_text()
    notebooks = (README.parent / "tutorials").glob("*.ipynb")
    pages = (site / "tutorials").glob("*.html")
    assert {path.stem for path in notebooks} == {path.stem for path in pages}
    listed = re.findall(r"\]\((.+)\)", (site / "llms.txt").read_text())
    assert listed and all((site / page).is_file() for page in listed)


def test_equations_are_set_by_a_file_of_the_site(site):
    page = site / "methods" / "rise.html"
    scripts = re.findall(r'<script[^>]* src="([^"]*mathjax[^"]*)"', page.read_text())
    assert scripts
    for script in scripts:
        assert (page.parent / script.partition("?")[0]).is_file()
