"""Mean curves as coordinates of a drawing: all that a template has to write down."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

__all__ = ["CurvePlot", "Line", "Tick", "curve_plot", "marker"]

WIDTH, HEIGHT = 480, 320
# Room for the labels of the axes.
LEFT, RIGHT, TOP, BOTTOM = 56, 22, 12, 46
MARKERS_PER_LINE = 7
RADIUS = 4


class Tick(NamedTuple):
    """A labeled place on an axis.

    Attributes:
        at (float): Coordinate along the axis.
        label (str): Text beside it.
    """

    at: float
    label: str


class Line(NamedTuple):
    """One method's mean curve.

    Attributes:
        method (str): Name of the method.
        points (str): The line, as SVG's ``points`` of a polyline.
        markers (str): Its markers, as SVG's ``d`` of a path.
    """

    method: str
    points: str
    markers: str


class CurvePlot(NamedTuple):
    """A drawing of curves.

    Attributes:
        width, height (int): Size of the drawing.
        left, right, top, bottom (int): Coordinates of the frame round the curves.
        x_ticks, y_ticks (list of Tick): Labels of the axes.
        lines (list of Line): The curves.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]


def curve_plot(curves: pd.DataFrame) -> CurvePlot:
    """Draw the mean curve of each method over the share of pixels.

    Args:
        curves (pandas.DataFrame): One row for each method, named by the index, one
            column for each share of the pixels, floats in [0, 1].

    Returns:
        *CurvePlot*: Coordinates of a drawing. The n-th method has the n-th marker.

    Examples::

        >>> import pandas
        >>> curves = pandas.DataFrame([[0.0, 0.5]], ["rise"], [0.0, 1.0])
        >>> curve_plot(curves).lines[0].points
        '56,274 458,12'
    """
    heights = MaxNLocator(5).tick_values(
        min(0.0, np.nanmin(curves.to_numpy())), np.nanmax(curves.to_numpy())
    )
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def x(share: float) -> float:
        return left + (right - left) * share

    def y(score: float) -> float:
        share = (score - heights[0]) / (heights[-1] - heights[0])
        return bottom - (bottom - top) * share

    lines = []
    for n, (method, row) in enumerate(curves.iterrows()):
        known = row.dropna()
        points = [(x(share), y(score)) for share, score in known.items()]
        lines.append(
            Line(
                str(method),
                " ".join(f"{_short(px)},{_short(py)}" for px, py in points),
                "".join(marker(n, *points[i]) for i in _spread(len(points), n)),
            )
        )
    return CurvePlot(
        WIDTH,
        HEIGHT,
        left,
        right,
        top,
        bottom,
        [Tick(x(share), f"{share:.0%}") for share in np.linspace(0, 1, 6)],
        [Tick(y(height), f"{height:.3g}") for height in heights],
        lines,
    )


def marker(n: int, x: float, y: float) -> str:
    """The n-th marker as SVG's path, at a place.

    Args:
        n (int): Which one; after seven they repeat.
        x, y (float): Its center.

    Returns:
        *str*: Commands of a path, to be filled.

    Examples::

        >>> marker(1, 10, 20)
        'M10 20m-3.5 -3.5h7v7h-7z'
    """
    r = RADIUS
    shapes = (
        f"m{-r} 0a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        "m-3.5 -3.5h7v7h-7z",
        "m0 -5l5 9h-10z",
        "m0 -5.5l5 5.5l-5 5.5l-5 -5.5z",
        "m0 5l5 -9h-10z",
        "m-1.5 -5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
        "m-5 -2.5l10 0l0 5l-10 0z",
    )
    return f"M{_short(x)} {_short(y)}{shapes[n % len(shapes)]}"


def _spread(n_points: int, n: int) -> Sequence[int]:
    """Where a line has its markers: each line elsewhere, so that none hides another."""
    if n_points == 0:
        return []
    shift = (n % MARKERS_PER_LINE) / MARKERS_PER_LINE
    places = (np.arange(MARKERS_PER_LINE) + shift) / MARKERS_PER_LINE
    return np.unique((places * (n_points - 1)).round().astype(int)).tolist()


def _short(coordinate: float) -> str:
    return f"{coordinate:.1f}".removesuffix(".0")
