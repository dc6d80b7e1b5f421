"""The report of a run as a self-contained HTML page."""

import math
from pathlib import Path

from captum_ext._extras import extra
from captum_ext._files import write_file
from captum_ext.evaluation.result_tables import Results, read_results
from captum_ext.report.content import find_cases, report_content
from captum_ext.report.gallery import GalleryImage, by_importance, gallery_images
from captum_ext.report.text import number_text, p_text, star

with extra("evaluation"):
    from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["render_report", "write_report"]


def write_report(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of a run as a self-contained HTML page.

    It begins with three sentences on the results, and shows means and medians with
    bootstrap intervals, paired tests, mean ranks, mean curves, the best and worst
    cases, a gallery of maps, errors, settings and provenance. The page loads no other
    file, stays below about 10 MB, and is the same for the same results.

    Args:
        folder (str or Path): Folder of a complete run.
        path (str or Path, optional): Page to write, atomically.
            Default: None (``report.html`` in ``folder``)

    Returns:
        *Path*: Path of the page.

    Raises:
        ValueError: If the folder holds no complete results, or the folder of ``path``
            does not exist.
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
    gallery = gallery_images(folder, images, [*results.settings["methods"]])
    page = render_report(results, gallery)
    write_file(page.encode(), target)
    return target


def render_report(results: Results, gallery: list[GalleryImage]) -> str:
    """Render the report of a run as HTML.

    Args:
        results (Results): Results of the run.
        gallery (list of GalleryImage): Images to show with their maps.

    Returns:
        *str*: HTML of the page.

    Raises:
        ValueError: If a metric is unknown.
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
        "star": star,
    }
    template = environment.get_template("report.html.j2")
    return template.render(report_content(results, gallery))


def _number(value: float) -> str:
    """Text of a number with a typographic minus sign, or a dash for NaN."""
    return "–" if math.isnan(value) else number_text(value).replace("-", "−")
