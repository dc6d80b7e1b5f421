"""Sphinx configuration: ``sphinx-build -W -b html docs docs/_build``.

Neither building nor reading the pages needs a network: MathJax and the styles are
copied from installed packages. Building writes one page per public class and function
to ``api/generated`` and a copy of the notebooks, which are not executed, to
``tutorials``.
"""

import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

import captum_ext

project = "captum_ext"
version = release = captum_ext.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"captum_ext {version}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

add_module_names = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": False}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# References to this package must resolve; those to other packages stay plain text,
# because resolving them would need a network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!captum_ext).*")]


def separate_items(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Insert the empty lines that reST requires before the lists in docstrings."""
    for i in reversed(range(len(lines))):
        if lines[i].lstrip().startswith("- **"):
            lines.insert(i, "")


def skip_fields(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool:
    """Skip the fields of named tuples, which the docstring of the class describes."""
    return skip or type(obj).__name__ == "_tuplegetter"


def prepare(app: Sphinx, config: Config) -> None:
    """Remove pages of earlier builds, and copy the notebooks to where Sphinx looks."""
    source, copies = app.srcdir.parent / "tutorials", Path(app.srcdir, "tutorials")
    for folder in (copies, Path(app.srcdir, "api", "generated")):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, copies, ignore=shutil.ignore_patterns("*.py", ".*", "_*"))


def list_pages(app: Sphinx, failure: Exception | None) -> None:
    """Write llms.txt: the titles and addresses of all pages, for programs that read."""
    if failure is None and app.builder.format == "html":
        titles = {name: title.astext() for name, title in app.env.titles.items()}
        lines = [f"- [{titles[name]}]({name}.html)" for name in sorted(titles)]
        page = "\n".join([f"# {html_title}", "", *lines, ""])
        Path(app.outdir, "llms.txt").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register the event handlers."""
    app.connect("build-finished", list_pages)
    app.connect("config-inited", prepare)
    app.connect("autodoc-skip-member", skip_fields)
    # Before napoleon, whose priority is 500.
    app.connect("autodoc-process-docstring", separate_items, priority=400)
