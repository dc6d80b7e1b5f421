"""Mean curves as SVG, drawn by matplotlib and colored by the style sheet of a page."""

import re
from contextlib import AbstractContextManager
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

__all__ = ["curve_plot", "legend_key"]

# In pixels of a page.
_WIDTH, _HEIGHT = 480, 320
_KEY_WIDTH, _KEY_HEIGHT = 44, 14
_FONT_SIZE = 13

# Eight dashes and colors and seven markers give 56 different lines.
_DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (4, 1.5),
    (1, 1),
    (4.5, 1.5, 1, 1.5),
    (7, 2),
    (2.5, 1, 0.5, 1, 0.5, 1),
    (0.5, 1.5),
    (2, 2),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MARKERS_PER_LINE = 7

# Stand-ins for the CSS variables that they are replaced by in the SVG.
_VARIABLES = ("quiet", "rule", "page", *(f"series-{n}" for n in range(len(_DASHES))))
_COLORS = {name: f"#{number:06x}" for number, name in enumerate(_VARIABLES, 1)}
_BY_COLOR = {color: f"var(--{name})" for name, color in _COLORS.items()}


def curve_plot(curves: pd.DataFrame, id: str) -> str:
    """Plot the mean curve of each method over the share of pixels.

    Args:
        curves (pandas.DataFrame): One row per method, one column per share of the
            pixels, floats in [0, 1].
        id (str): Id of the element of the page that labels the plot; ids within the
            SVG start with it.

    Returns:
        *str*: SVG element. The n-th method has the line of :func:`legend_key` n.

    Examples::

        >>> import pandas
        >>> curves = pandas.DataFrame([[0.0, 0.5]], ["rise"], [0.0, 1.0])
        >>> curve_plot(curves, "plot-1")[:36]
        '<svg viewBox="0 0 480 320" role="img'
    """
    scores = curves.to_numpy()
    ticks = MaxNLocator(5).tick_values(min(0.0, np.nanmin(scores)), np.nanmax(scores))
    with _page_style():
        figure = Figure((_WIDTH / 72, _HEIGHT / 72), layout="constrained")
        axes = figure.add_subplot(
            xlim=(0, 1),
            ylim=(ticks[0], ticks[-1]),
            xlabel="share of the pixels",
            ylabel="score of the class",
        )
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_yticks(ticks, [f"{tick:.3g}" for tick in ticks])
        axes.grid(axis="y", clip_on=False)
        for n, (_, row) in enumerate(curves.iterrows()):
            known = row.dropna()
            if not known.empty:
                line = _line(n, known.index.to_numpy(), known.to_numpy())
                # Each line has its markers elsewhere, so that none hides another.
                start = n % len(_MARKERS) / len(_MARKERS) / _MARKERS_PER_LINE
                line.set_markevery((start, 1 / _MARKERS_PER_LINE))
                axes.add_line(line)
        return _svg(figure, id, {"role": "img", "aria-labelledby": id})


def legend_key(n: int, id: str) -> str:
    """Draw a sample of the n-th line, for a legend.

    Args:
        n (int): Index of the line.
        id (str): Start of the ids within the SVG.

    Returns:
        *str*: SVG element, hidden from screen readers.
    """
    with _page_style():
        figure = Figure((_KEY_WIDTH / 72, _KEY_HEIGHT / 72))
        line = _line(n, [0.0, 0.5, 1.0], [0.5, 0.5, 0.5])
        line.set(markevery=[1], transform=figure.transFigure)
        figure.add_artist(line)
        return _svg(figure, id, {"aria-hidden": "true"})


def _line(n: int, x: ArrayLike, y: ArrayLike) -> Line2D:
    color = _COLORS[f"series-{n % len(_DASHES)}"]
    return Line2D(
        x,
        y,
        color=color,
        dashes=_DASHES[n % len(_DASHES)],
        marker=_MARKERS[n % len(_MARKERS)],
        clip_on=False,
    )


def _page_style() -> AbstractContextManager[None]:
    """Matplotlib's default style with the colors and sizes of the page."""
    return style.context(
        [
            "default",
            {
                "axes.axisbelow": True,
                "axes.edgecolor": _COLORS["quiet"],
                "axes.labelcolor": _COLORS["quiet"],
                "axes.spines.right": False,
                "axes.spines.top": False,
                "figure.frameon": False,
                "font.size": _FONT_SIZE,
                "grid.color": _COLORS["rule"],
                "lines.linewidth": 2,
                "lines.markeredgecolor": _COLORS["page"],
                "lines.markersize": 9,
                "savefig.transparent": True,
                "svg.fonttype": "none",
                # Ids are hashes with a random salt by default.
                "svg.hashsalt": "captum_ext",
                "xtick.color": _COLORS["quiet"],
                "ytick.color": _COLORS["quiet"],
            },
        ]
    )


def _svg(figure: Figure, id: str, attributes: dict[str, str]) -> str:
    """A figure as an SVG element that shares a page with others."""
    content = BytesIO()
    unset = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(content, format="svg", metadata=unset)
    root = ElementTree.fromstring(content.getvalue())
    referenced = set(re.findall(r"#(\w+)", content.getvalue().decode()))
    for parent in list(root.iter()):
        for child in list(parent):
            # Its rules would hold for the whole page.
            if child.tag.endswith("}style"):
                parent.remove(child)
    for element in root.iter():
        # In HTML, elements and attributes of SVG need no namespace.
        element.tag = element.tag.partition("}")[2]
        element.attrib = {
            name.rpartition("}")[2]: _on_page(name, value, id)
            for name, value in element.attrib.items()
            if name != "id" or value in referenced
        }
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"]} | attributes
    return ElementTree.tostring(root, encoding="unicode")


def _on_page(name: str, value: str, id: str) -> str:
    """The value of an attribute with the ids, colors and font of the page."""
    if name == "id":
        return f"{id}-{value}"
    if name == "style":
        value = re.sub(r"font-family: [^;]*; ?", "", value)
        return re.sub("#[0-9a-f]{6}", lambda color: _BY_COLOR[color[0]], value)
    value = re.sub(r"#(?=\w)", f"#{id}-", value)
    return " ".join(value.split())
