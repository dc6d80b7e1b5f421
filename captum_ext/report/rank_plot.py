"""Critical-difference diagrams as SVG."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_ext.evaluation.ranks import Ranking
from captum_ext.evaluation.statistics import LEVEL
from captum_ext.report.page_svg import COLORS, page_style, svg_element

__all__ = ["equal_groups", "rank_plot"]

# In pixels of a page: labels end at the left margin, where the axis begins.
_WIDTH, _ROW = 480, 24
_LEFT, _RIGHT = 200, 20
_MAX_LABEL = 22


def equal_groups(ranking: Ranking) -> list[tuple[float, float]]:
    """Largest groups of methods without a significant difference.

    Args:
        ranking (Ranking): Mean ranks of at least two methods.

    Returns:
        *list of pairs*: Lowest and highest mean rank of each group of two or more
        methods; a single group of all methods if the Friedman test finds no difference.

    Examples::

        >>> import pandas
        >>> from captum_ext.evaluation.ranks import Ranking
        >>> ranks = pandas.Series([1.0, 1.5, 2.25], ["a", "b", "c"])
        >>> equal_groups(Ranking(ranks, 20, 0.01, 1.0))
        [(1.0, 1.5), (1.5, 2.25)]
    """
    ranks = ranking.ranks.to_numpy()
    if ranking.p >= LEVEL:
        return [(float(ranks[0]), float(ranks[-1]))]
    groups: list[tuple[float, float]] = []
    end = -1
    for i, first in enumerate(ranks):
        last = int(np.flatnonzero(ranks - first < ranking.critical_difference)[-1])
        if last > max(i, end):
            groups.append((float(first), float(ranks[last])))
            end = last
    return groups


def rank_plot(ranking: Ranking, titles: dict[str, str], id: str) -> str:
    """Draw mean ranks on an axis, with bars that join methods that do not differ.

    Source: J. Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets,
    JMLR 2006.

    Args:
        ranking (Ranking): Mean ranks of at least three methods.
        titles (dict[str, str]): Titles of the methods by name.
        id (str): Id of the element of the page that labels the diagram; ids within the
            SVG start with it.

    Returns:
        *str*: SVG element.
    """
    groups = equal_groups(ranking)
    n = len(ranking.ranks)
    first_label = 3.2 + 0.5 * len(groups)
    height = _ROW * (first_label + n)
    with page_style():
        figure = Figure((_WIDTH / 72, height / 72))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _WIDTH), ylim=(height, 0))
        axes.set_axis_off()
        _draw_axis(axes, n, ranking.critical_difference)
        for level, (low, high) in enumerate(groups):
            y = _ROW * (3 + 0.5 * level)
            ends = [_x(low, n) - 4, _x(high, n) + 4]
            axes.plot(
                ends,
                [y, y],
                clip_on=False,
                color=COLORS["text"],
                lw=5,
                solid_capstyle="butt",
            )
        for row, (name, rank) in enumerate(ranking.ranks.items()):
            y = _ROW * (first_label + row)
            _draw_method(axes, titles[str(name)], _x(rank, n), rank, y)
        return svg_element(figure, id, {"role": "img", "aria-labelledby": id})


def _x(rank: float, n: int) -> float:
    """Position of a mean rank from 1 to n on the page."""
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (rank - 1) / (n - 1)


def _draw_axis(axes: Axes, n: int, difference: float) -> None:
    """The ranks from 1 to n, and the length of the critical difference above."""
    y, color = _ROW * 2.5, COLORS["quiet"]
    axes.plot([_x(1, n), _x(n, n)], [y, y], clip_on=False, color=color, lw=1)
    for rank in range(1, n + 1):
        x = _x(rank, n)
        axes.plot([x, x], [y - 5, y], clip_on=False, color=color, lw=1)
        axes.text(x, y - 8, str(rank), color=color, ha="center")
    start, end = _x(1, n), _x(1 + difference, n)
    y = _ROW * 0.75
    axes.plot(
        [start, start, start, end, end, end],
        [y - 4, y + 4, y, y, y - 4, y + 4],
        clip_on=False,
        color=COLORS["text"],
        lw=1.5,
    )
    label = f"critical difference {difference:.2f}"
    axes.text(end + 8, y, label, color=color, va="center")


def _draw_method(axes: Axes, title: str, x: float, rank: float, y: float) -> None:
    """A line from the mean rank on the axis down and left to the label."""
    line = [x, x, _LEFT - 10], [_ROW * 2.5, y, y]
    axes.plot(*line, clip_on=False, color=COLORS["quiet"], lw=1, zorder=1)
    short = title if len(title) <= _MAX_LABEL else f"{title[: _MAX_LABEL - 1]}…"
    label = f"{short} {rank:.2f}"
    axes.text(_LEFT - 15, y, label, color=COLORS["text"], ha="right", va="center")
