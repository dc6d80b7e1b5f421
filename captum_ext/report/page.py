"""The report of a run: one HTML page that needs nothing beside it."""

import math
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from captum_ext._files import write_file
from captum_ext.evaluation.result_tables import Results, read_results
from captum_ext.report.content import find_cases, report_content
from captum_ext.report.gallery import Exhibit, by_importance, exhibits
from captum_ext.report.text import number_text, p_text, stars

__all__ = ["render_report", "write_report"]


def write_report(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of a run as one HTML page.

    It has means and medians with bootstrap intervals, paired tests, mean curves, the
    best and worst cases, a gallery of maps, errors, settings and provenance. The page
    loads nothing, stays below about 10 MB, and is the same for the same results.

    Args:
        folder (str or Path): What the run wrote, complete.
        path (str or Path, optional): The page to write.
            Default: None (``report.html`` in ``folder``)

    Returns:
        *Path*: The page, which is written whole or not at all.

    Raises:
        ValueError: If there are no complete results in the folder, or ``path`` lies in
            no folder.
        OSError: If the page cannot be written.

    Examples::

        >>> write_report("results", "comparison.html")  # doctest: +SKIP
        PosixPath('comparison.html')
    """
    folder = Path(folder)
    target = folder / "report.html" if path is None else Path(path)
    if target.is_dir() or not target.resolve().parent.is_dir():
        raise ValueError(
            f"path must be a file in an existing folder, got {str(target)!r}."
        )
    results = read_results(folder)
    images = by_importance(find_cases(results), results.table["image"])
    shown = exhibits(folder, images, [*results.settings["methods"]])
    page = render_report(results, shown)
    write_file(page.encode(), target)
    return target


def render_report(results: Results, gallery: list[Exhibit]) -> str:
    """The report of a run as HTML.

    Args:
        results (Results): Of the run.
        gallery (list of Exhibit): Images to show with their maps.

    Returns:
        *str*: A page that loads nothing.

    Raises:
        ValueError: If the results hold an unknown metric.
    """
    environment = Environment(
        loader=PackageLoader("captum_ext.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "p_value": p_text,
        "sentence": lambda text: text[:1].upper() + text[1:],
        "stars": stars,
    }
    template = environment.get_template("report.html.j2")
    return template.render(report_content(results, gallery))


def _number(value: float) -> str:
    """A number with a true minus sign, or a dash where there is none."""
    return "–" if math.isnan(value) else number_text(value).replace("-", "−")
