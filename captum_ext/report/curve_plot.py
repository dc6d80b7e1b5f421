"""Mean curves as SVG, drawn by matplotlib and colored by the style sheet of a page."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from captum_ext.report.page_svg import COLORS, N_SERIES, page_style, svg_element

__all__ = ["curve_plot", "legend_key"]

# In pixels of a page.
_WIDTH, _HEIGHT = 480, 320
_KEY_WIDTH, _KEY_HEIGHT = 44, 14

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


def curve_plot(
    curves: pd.DataFrame,
    id: str,
    bands: Mapping[str, tuple[pd.Series, pd.Series]] | None = None,
) -> str:
    """Plot the mean curve of each method over the share of pixels.

    Args:
        curves (pandas.DataFrame): One row per method, one column per share of the
            pixels, floats in [0, 1].
        id (str): Id of the element of the page that labels the plot; ids within the
            SVG start with it.
        bands (Mapping, optional): By method, the lower and upper limit of its curve,
            which have the columns of ``curves`` as index. Default: None

    Returns:
        *str*: SVG element. The n-th method has the line of :func:`legend_key` n.

    Examples::

        >>> import pandas
        >>> curves = pandas.DataFrame([[0.0, 0.5]], ["rise"], [0.0, 1.0])
        >>> curve_plot(curves, "plot-1")[:36]
        '<svg viewBox="0 0 480 320" role="img'
    """
    bands = bands or {}
    shown = [curves, *(limit for band in bands.values() for limit in band)]
    scores = np.concatenate([part.to_numpy().ravel() for part in shown])
    ticks = MaxNLocator(5).tick_values(min(0.0, np.nanmin(scores)), np.nanmax(scores))
    with page_style():
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
        for n, (method, row) in enumerate(curves.iterrows()):
            known = row.dropna()
            if method in bands:
                low, high = bands[method]
                color = COLORS[f"series-{n % N_SERIES}"]
                axes.fill_between(
                    low.index, low, high, color=color, alpha=0.15, lw=0, clip_on=False
                )
            if not known.empty:
                line = _line(n, known.index.to_numpy(), known.to_numpy())
                # Each line has its markers elsewhere, so that none hides another.
                start = n % len(_MARKERS) / len(_MARKERS) / _MARKERS_PER_LINE
                line.set_markevery((start, 1 / _MARKERS_PER_LINE))
                axes.add_line(line)
        return svg_element(figure, id, {"role": "img", "aria-labelledby": id})


def legend_key(n: int, id: str) -> str:
    """Draw a sample of the n-th line, for a legend.

    Args:
        n (int): Index of the line.
        id (str): Start of the ids within the SVG.

    Returns:
        *str*: SVG element, hidden from screen readers.
    """
    with page_style():
        figure = Figure((_KEY_WIDTH / 72, _KEY_HEIGHT / 72))
        line = _line(n, [0.0, 0.5, 1.0], [0.5, 0.5, 0.5])
        line.set(markevery=[1], transform=figure.transFigure)
        figure.add_artist(line)
        return svg_element(figure, id, {"aria-hidden": "true"})


def _line(n: int, x: ArrayLike, y: ArrayLike) -> Line2D:
    color = COLORS[f"series-{n % N_SERIES}"]
    return Line2D(
        x,
        y,
        color=color,
        dashes=_DASHES[n % len(_DASHES)],
        marker=_MARKERS[n % len(_MARKERS)],
        clip_on=False,
    )
