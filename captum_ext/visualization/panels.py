"""Grids of panels with titles and a color bar.

Positions are computed here: matplotlib's layout engines cut off titles of panels with a
fixed aspect ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import sqrt
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from PIL import Image

from captum_ext._type_checks import check_instance, check_sequence
from captum_ext.visualization.array_conversion import (
    FloatArray,
    rescaled,
    robust_scale,
)
from captum_ext.visualization.painting import color_scale, heat_map

__all__ = [
    "BAR_GRAY",
    "BAR_INCHES",
    "CHARACTERS_PER_INCH",
    "DPI",
    "GAP",
    "LABEL_SIZE",
    "LINE_INCHES",
    "NotebookFigure",
    "NotebookImage",
    "SIGNED_ENDS",
    "TITLE_SIZE",
    "UNSIGNED_ENDS",
    "add_color_bar",
    "add_range_bar",
    "align_ends",
    "panel_grid",
    "show",
    "show_scaled",
    "stack_figures",
]

DPI = 150
BAR_INCHES = 0.9
# Words at the ends of a color bar of maps that have different units.
SIGNED_ENDS = ("lowers\nthe score", "0", "raises\nthe score")
UNSIGNED_ENDS = ("0", "important")
# Transparent colors show a gray similar to that of the panels.
BAR_GRAY = 0.8
GAP = 0.08
LINE_INCHES = 0.18
TITLE_SIZE = 10
LABEL_SIZE = 8
CHARACTERS_PER_INCH = 12


class NotebookFigure(Figure):
    """Figure that notebooks show as the last value of a cell, without pyplot."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


class NotebookImage(np.ndarray[Any, np.dtype[np.uint8]]):
    """RGB pixels (H, W, 3) that notebooks show as an image; parts of it are numbers."""

    def _repr_png_(self) -> bytes | None:
        if self.dtype != np.uint8 or self.ndim != 3 or self.shape[-1] != 3:
            return None
        file = BytesIO()
        Image.fromarray(np.asarray(self)).save(file, format="png")
        return file.getvalue()


def panel_grid(
    titles: Sequence[str],
    n_columns: int,
    size: tuple[int, ...],
    inches: float,
    below: float = 0.0,
    right: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per title, row by row, for images of ``size``.

    A panel has an area of ``inches`` squared and a margin of ``below`` inches below it;
    the figure has a right margin of ``right`` inches.
    """
    stretch = sqrt(size[0] / size[1])
    width, height = inches / stretch, inches * stretch
    line_length = max(round(width * CHARACTERS_PER_INCH), 8)
    wrapped = [fill(title, line_length) for title in titles]
    rows = [wrapped[i : i + n_columns] for i in range(0, len(wrapped), n_columns)]
    above = [GAP + LINE_INCHES * max(map(_count_lines, row)) for row in rows]
    total_width = GAP + n_columns * (width + GAP) + right
    total_height = sum(above) + len(rows) * (height + below) + GAP
    figure = NotebookFigure(figsize=(total_width, total_height), dpi=DPI)
    y = total_height
    for row, space in zip(rows, above):
        y -= space + height
        for column, title in enumerate(row):
            x = GAP + column * (width + GAP)
            box = np.array([x, y, width, height]) / (2 * [total_width, total_height])
            panel = figure.add_axes(tuple(box), xticks=[], yticks=[])
            panel.set_title(title, fontsize=TITLE_SIZE)
        y -= below
    return figure, figure.axes


def show(panel: Axes, pixels: FloatArray) -> None:
    """Draw pixels (H, W, 3), the first row on top regardless of rcParams."""
    panel.imshow(pixels, origin="upper")


def show_scaled(
    panel: Axes, pixels: FloatArray, values: FloatArray, signed: bool
) -> None:
    """Draw a map in units of its own scale."""
    show(panel, heat_map(pixels, rescaled(values, robust_scale(values)), signed))


def add_color_bar(
    figure: Figure, panels: list[Axes], signed: bool, label: str, ticks: Sequence[str]
) -> None:
    """Add a color bar in the right margin, with evenly spaced ``ticks``."""
    colormap, norm = color_scale(signed)
    width = figure.get_figwidth()
    bottom, top = panels[-1].get_position().y0, panels[0].get_position().y1
    axes = figure.add_axes((1 - BAR_INCHES / width, bottom, 0.12 / width, top - bottom))
    axes.set_facecolor(str(BAR_GRAY))
    bar = figure.colorbar(ScalarMappable(norm, colormap), cax=axes)
    bar.set_ticks(list(np.linspace(-1 if signed else 0, 1, len(ticks))), labels=ticks)
    axes.tick_params(labelsize=LABEL_SIZE)
    # Labels at the ends stay within the length of the bar.
    axes.get_yticklabels()[0].set_verticalalignment("bottom")
    axes.get_yticklabels()[-1].set_verticalalignment("top")
    bar.set_label(label, fontsize=LABEL_SIZE)


def add_range_bar(
    figure: Figure, panel: Axes, colormap: Colormap, least: float, largest: float
) -> None:
    """Add a flat color bar below the panel, with both ends of the range as labels."""
    height = panel.get_position().height * figure.get_figheight()
    box = (0, -2 * GAP / height, 1, GAP / height)
    axes = panel.inset_axes(box, facecolor=str(BAR_GRAY))
    mappable = ScalarMappable(Normalize(least, largest), colormap)
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal")
    ends = [least, largest]
    bar.set_ticks(ends, labels=[f"{end:.3g}" for end in ends])
    axes.tick_params(labelsize=LABEL_SIZE, length=2, pad=2)
    align_ends(axes)


def align_ends(axes: Axes) -> None:
    """Align the first and the last label with the ends of a horizontal bar."""
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")


def _count_lines(title: str) -> int:
    return title.count("\n") + 1 if title else 0


def stack_figures(figures: Sequence[Figure]) -> Image.Image:
    r"""Stack figures vertically in one image.

    Args:
        figures (sequence[Figure]): At least one figure.

    Returns:
        PIL.Image.Image: An image as wide as the widest figure, with white margins next
        to narrower ones.

    Raises:
        ValueError: If there are no figures.

    Examples::

        >>> from matplotlib.figure import Figure
        >>> stack_figures([Figure((2, 1), dpi=100), Figure((1, 1), dpi=100)]).size
        (200, 200)
    """
    for figure in check_sequence("figures", figures, "figures"):
        check_instance("figures", figure, Figure)
    if not figures:
        raise ValueError("figures must hold at least one figure, got none.")
    pages = []
    for figure in figures:
        file = BytesIO()
        figure.savefig(file, format="png")
        pages.append(Image.open(file).convert("RGB"))
    width = max(page.width for page in pages)
    stacked = Image.new("RGB", (width, sum(page.height for page in pages)), "white")
    top = 0
    for page in pages:
        stacked.paste(page, (0, top))
        top += page.height
    return stacked
