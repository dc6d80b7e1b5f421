"""Figures of inputs that are not images: series, tables and tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from captum_ext._type_checks import check_instance, check_sequence
from captum_ext._validation import check_integer
from captum_ext.visualization.array_conversion import (
    ArrayLike,
    FloatArray,
    finite_array,
    rescaled,
    robust_scale,
)
from captum_ext.visualization.painting import blend, color_scale
from captum_ext.visualization.panels import (
    CHARACTERS_PER_INCH,
    DPI,
    LABEL_SIZE,
    NotebookFigure,
)

__all__ = ["bar_figure", "series_figure", "token_figure"]

_WIDTH = 6.0
_LINE_INCHES = 0.28
_WHITE = np.ones(3)


def series_figure(
    series: ArrayLike, attribution: ArrayLike, names: Sequence[str] | None = None
) -> Figure:
    r"""Draw the channels of a series over the colors of their attributions.

    Red is positive, blue is negative, white is zero. All channels share one scale,
    which ends at the 99th percentile of the non-zero magnitudes.

    Args:
        series (Tensor or numpy.ndarray): One series, in any unit: a tensor (C, L) or an
            array (L, C), alone or as a batch of one.
        attribution (Tensor or numpy.ndarray): Its attributions, in the form of
            ``series``.
        names (sequence of str, optional): C names of the channels.
            Default: None (channel 0, channel 1, ...)

    Returns:
        matplotlib.figure.Figure: A figure with axes for each channel and the color bar.

    Raises:
        TypeError: If an argument is neither a tensor nor an array.
        ValueError: If shapes differ, values are NaN or infinite, or there are not C
            names.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import series_figure
        >>> figure = series_figure(torch.randn(2, 50), torch.randn(2, 50))
    """
    values = _rows("series", series, 2)
    scores = _rows("attribution", attribution, 2)
    if scores.shape != values.shape:
        raise ValueError(
            f"attribution must have the shape of the series, {values.shape}, got "
            f"{scores.shape} (channels first)."
        )
    n_channels, length = values.shape
    titles = _names(names, [f"channel {i}" for i in range(n_channels)])
    strengths, scale = _scaled(scores)
    figure = NotebookFigure((_WIDTH, 1.1 * n_channels + 0.5), DPI, layout="constrained")
    axes = figure.subplots(n_channels, 1, sharex=True, squeeze=False)[:, 0]
    for panel, line, strength, title in zip(axes, values, strengths, titles):
        low, high = line.min(), line.max()
        margin = 0.05 * (high - low) or 1.0
        panel.imshow(
            _on_white(strength)[None],
            aspect="auto",
            extent=(-0.5, length - 0.5, low - margin, high + margin),
            origin="upper",
        )
        panel.plot(line, color="black", linewidth=1.2)
        panel.set_ylabel(title, fontsize=LABEL_SIZE)
        panel.tick_params(labelsize=LABEL_SIZE)
    _add_bar(figure, list(axes), scale)
    return figure


def bar_figure(
    attribution: ArrayLike,
    names: Sequence[str] | None = None,
    values: Sequence[object] | None = None,
    n_bars: int = 12,
) -> Figure:
    r"""Draw the attributions of the columns of a table as bars, the largest on top.

    Red bars raise the score, blue bars lower it. The last bar sums up the columns that
    are not shown.

    Args:
        attribution (Tensor or numpy.ndarray): Attributions of one row of the table,
            (D,) or (1, D), in the unit of the score.
        names (sequence of str, optional): D names of the columns.
            Default: None (column 0, column 1, ...)
        values (sequence, optional): D values of the row, shown after the names.
            Default: None (no values)
        n_bars (int, optional): Largest number of bars. Default: 12

    Returns:
        matplotlib.figure.Figure: A figure with one axes.

    Raises:
        TypeError: If ``attribution`` is neither a tensor nor an array.
        ValueError: If it has another shape or NaN or infinite values, if there are not
            D names or values, or if ``n_bars`` is below 1.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import bar_figure
        >>> figure = bar_figure(torch.tensor([0.3, -0.1]), ["age", "weight"], [41, 70])
    """
    scores = _rows("attribution", attribution, 1)
    n_bars = check_integer("n_bars", n_bars, 1)
    titles = _names(names, [f"column {i}" for i in range(len(scores))])
    if values is not None:
        given = check_sequence("values", values, "values")
        shown = _names([str(each) for each in given], titles, "values")
        titles = [f"{title} = {value}" for title, value in zip(titles, shown)]
    order = np.argsort(-np.abs(scores), kind="stable")
    if len(order) > n_bars:
        order, rest = order[: n_bars - 1], order[n_bars - 1 :]
        scores = np.append(scores[order], scores[rest].sum())
        titles = [titles[i] for i in order] + [f"{len(rest)} other columns"]
    else:
        scores, titles = scores[order], [titles[i] for i in order]
    colormap, norm = color_scale(True)
    figure = NotebookFigure(
        (_WIDTH, _LINE_INCHES * len(scores) + 0.6), DPI, layout="constrained"
    )
    axes = figure.subplots()
    axes.barh(titles, scores, color=colormap(norm(np.sign(scores)))[:, :3])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.tick_params(labelsize=LABEL_SIZE)
    axes.set_xlabel("attribution", fontsize=LABEL_SIZE)
    return figure


def token_figure(tokens: Sequence[str], attribution: ArrayLike) -> Figure:
    r"""Draw a text whose tokens have the colors of their attributions.

    Red is positive, blue is negative, white is zero; the color bar ends at the
    99th percentile of the non-zero magnitudes.

    Args:
        tokens (sequence of str): L tokens, as they are to be read.
        attribution (Tensor or numpy.ndarray): Attributions of the tokens, (L,) or
            (1, L).

    Returns:
        matplotlib.figure.Figure: A figure with axes for the text and the color bar.

    Raises:
        TypeError: If ``attribution`` is neither a tensor nor an array.
        ValueError: If it has another shape or NaN or infinite values, or if there are
            not L tokens.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import token_figure
        >>> figure = token_figure(["a", "fine", "film"], torch.tensor([0.0, 0.8, -0.1]))
    """
    scores = _rows("attribution", attribution, 1)
    check_sequence("tokens", tokens, "texts")
    words = _names(tokens, [""] * len(scores), "tokens")
    strengths, scale = _scaled(scores)
    per_line = int(0.8 * _WIDTH * CHARACTERS_PER_INCH)
    positions, n_lines = _wrapped(words, per_line)
    height = _LINE_INCHES * n_lines
    figure = NotebookFigure((_WIDTH, height + 0.9), DPI, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, per_line), ylim=(n_lines, 0))
    axes.axis("off")
    for word, (line, start), color in zip(words, positions, _on_white(strengths)):
        box = Rectangle((start, line + 0.08), len(word) + 0.6, 0.84, color=color)
        axes.add_patch(box)
        axes.text(
            start + (len(word) + 0.6) / 2,
            line + 0.5,
            # A dollar sign starts a formula in matplotlib.
            word.replace("$", r"\$"),
            family="monospace",
            fontsize=LABEL_SIZE,
            ha="center",
            va="center",
        )
    _add_bar(figure, [axes], scale, below=True)
    return figure


def _wrapped(
    words: Sequence[str], per_line: int
) -> tuple[list[tuple[int, float]], int]:
    """Line and first column of each word, and the number of lines."""
    positions, line, column = [], 0, 0.0
    for word in words:
        if column and column + len(word) > per_line:
            line, column = line + 1, 0.0
        positions.append((line, column))
        column += len(word) + 1
    return positions, line + 1


def _rows(name: str, value: ArrayLike, n_axes: int) -> FloatArray:
    """Finite values with channels first, without a batch axis of one."""
    array = finite_array(value, name)
    if array.ndim == n_axes + 1 and len(array) == 1:
        array = array[0]
    if array.ndim != n_axes:
        raise ValueError(
            f"{name} must have {n_axes} axes, alone or as a batch of one, got shape "
            f"{array.shape}."
        )
    return array.T if n_axes == 2 and isinstance(value, np.ndarray) else array


def _names(
    given: Sequence[str] | None, default: Sequence[str], argument: str = "names"
) -> list[str]:
    """Names by argument, as many as the default ones."""
    if given is None:
        return list(default)
    for each in check_sequence(argument, given, "texts"):
        check_instance(argument, each, str)
    if len(given) != len(default):
        raise ValueError(
            f"{argument} must hold {len(default)} texts, got {len(given)}."
        )
    return list(given)


def _scaled(scores: FloatArray) -> tuple[FloatArray, float]:
    scale = robust_scale(scores)
    return rescaled(scores, scale), scale


def _on_white(strengths: FloatArray) -> FloatArray:
    """Colors (..., 3) of signed strengths (...) on white."""
    colormap, norm = color_scale(True)
    rgba = colormap(norm(strengths))
    return blend(_WHITE, rgba[..., :3], rgba[..., 3])


def _add_bar(
    figure: Figure, axes: list[Axes], scale: float, below: bool = False
) -> None:
    colormap, _ = color_scale(True)
    entries = np.linspace(-1, 1, colormap.N)
    norm = Normalize(-scale, scale)
    mappable = ScalarMappable(norm, ListedColormap(_on_white(entries)))
    bar = figure.colorbar(
        mappable,
        ax=axes,
        orientation="horizontal" if below else "vertical",
        aspect=40 if below else 20,
    )
    bar.set_label("attribution", fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=LABEL_SIZE)
