"""Figures of one image: maps of several methods, or the K maps of MC-RISE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_ext._type_checks import check_flags, check_instance, check_sequence
from captum_ext._validation import check_probability
from captum_ext.visualization.array_conversion import (
    ArrayLike,
    FloatArray,
    finite_array,
    flat_map,
    read_array,
    read_image,
    rescaled,
    robust_scale,
)
from captum_ext.visualization.painting import (
    DOTS_PER_SIDE,
    LUMA,
    PIXELS_PER_DOT,
    best_colors,
    heat_map,
    painted,
)
from captum_ext.visualization.panels import (
    BAR_INCHES,
    LABEL_SIZE,
    SIGNED_ENDS,
    UNSIGNED_ENDS,
    NotebookImage,
    add_color_bar,
    align_ends,
    panel_grid,
    show,
    show_scaled,
)

__all__ = [
    "BAR_DOTS",
    "MAX_COLUMNS",
    "OUTLINE",
    "PANEL_INCHES",
    "color_saliency_figure",
    "overlay",
    "overlay_figure",
]

MAX_COLUMNS = 6
PANEL_INCHES = 2.0
OUTLINE = 0.5
BAR_DOTS = 2


def overlay(
    image: ArrayLike, attribution: ArrayLike, signed: bool | None = None
) -> NDArray[np.uint8]:
    r"""Blend a map with its image, for figures of your own.

    The map is scaled as in :func:`shown_map`. It tints the image, whose texture stays
    visible: red is positive, blue is negative, and values near zero are transparent.

    Args:
        image (Tensor, numpy.ndarray or PIL.Image.Image): One image in [0, 1], or in
            [0, 255] if it holds bytes: a tensor (3, H, W) or (1, H, W), an array
            (H, W, 3) or (H, W, 1), a batch of one of them, or a PIL image.
        attribution (Tensor or numpy.ndarray): Its map in any unit: a tensor (C, H, W)
            or (H, W), an array (H, W, C) or (H, W), or a batch of one of them.
            Channels are averaged; a layer's map that is smaller and of similar
            proportions is interpolated bilinearly.
        signed (bool, optional): Whether the colors are those of signed maps.
            Default: None (if a value is negative)

    Returns:
        numpy.ndarray: RGB, (H, W, 3) uint8. Notebooks show it as an image.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument has a wrong shape or contains NaN or infinity, or if
            the image is out of its range.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import overlay
        >>> overlay(torch.rand(3, 64, 64), torch.randn(1, 3, 64, 64)).shape
        (64, 64, 3)
    """
    pixels = read_image(image, "image")
    values = flat_map(attribution, pixels.shape[:2], "attribution")
    if signed is None:
        signed = bool(values.min() < 0)
    check_flags(signed=signed)
    blended = heat_map(pixels, rescaled(values, robust_scale(values)), signed)
    return (255 * blended).round().astype(np.uint8).view(NotebookImage)


def overlay_figure(
    image: ArrayLike,
    maps: Mapping[str, ArrayLike],
    signed: bool | None = None,
    contour: float | None = None,
) -> Figure:
    r"""Draw an image and the heat maps of several methods next to it.

    Each map tints the image as in :func:`overlay` and is scaled by itself, since
    methods have different units: the strongest color is the 99th percentile of the
    map's non-zero magnitudes. Red is positive, blue is negative, and zero is
    transparent. Maps without negative values have colors of their own. More than six
    panels are spread over several rows. Notebooks show the figure as the last value of
    a cell.

    Args:
        image (Tensor, numpy.ndarray or PIL.Image.Image): One image in any form that
            :func:`overlay` takes.
        maps (dict[str, Tensor or numpy.ndarray]): Attributions by the title of their
            panel, each in any form that :func:`overlay` takes.
        signed (bool, optional): Whether the colors are those of signed maps.
            Default: None (if a value of any map is negative)
        contour (float, optional): Share of the image, in (0, 1), that a contour around
            the highest values of each map encloses. Default: None (no contour)

    Returns:
        matplotlib.figure.Figure: A figure with axes for the image, each map and the
        color bar.

    Raises:
        TypeError: If ``maps`` is not a mapping, or if the image or a map is of another
            type.
        ValueError: If ``maps`` is empty; if the image or a map has a wrong shape or
            contains NaN or infinity; if the image or ``contour`` is out of its range.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import overlay_figure
        >>> image = torch.rand(3, 64, 64)
        >>> maps = {"PN-RISE": torch.randn(3, 64, 64), "layer": torch.rand(1, 7, 7)}
        >>> overlay_figure(image, maps).savefig("maps.png")  # doctest: +SKIP
    """
    pixels = read_image(image, "image")
    if not isinstance(maps, Mapping):
        raise TypeError(
            f"maps must be a dict from titles to maps, got {type(maps).__name__}."
        )
    if not maps:
        raise ValueError("maps must hold at least one map, got none.")
    for title in maps:
        check_instance("maps", title, str)
    size = pixels.shape[:2]
    flat = {name: flat_map(m, size, f"maps[{name!r}]") for name, m in maps.items()}
    if contour is not None:
        contour = check_probability("contour", contour)
    # All panels share one color bar: it is signed if one of the maps is.
    if signed is None:
        signed = any(bool(values.min() < 0) for values in flat.values())
    check_flags(signed=signed)

    titles = ["image", *flat]
    figure, panels = panel_grid(
        titles,
        _balanced_columns(len(titles)),
        size,
        PANEL_INCHES,
        below=0.22,
        right=BAR_INCHES,
    )
    show(panels[0], pixels)
    for panel, values in zip(panels[1:], flat.values()):
        show_scaled(panel, pixels, values, signed)
        if contour is not None:
            _add_outline(panel, values, np.quantile(values, 1 - contour))
    ends = SIGNED_ENDS if signed else UNSIGNED_ENDS
    add_color_bar(figure, panels, signed, "", ends)
    return figure


def color_saliency_figure(
    image: ArrayLike,
    maps: ArrayLike,
    colors: ArrayLike,
    names: Sequence[str] | None = None,
) -> Figure:
    r"""Draw MC-RISE's map of each color in that color, and the best color per pixel.

    Over a gray version of the image, each panel is painted in its color where that
    color would raise the score and dotted where it would lower the score; opacity and
    dot size increase with the magnitude. A contour encloses values above half of the
    scale. All panels share one scale, the 99th percentile of the non-zero magnitudes,
    shown in the maps' unit below the panels. The last panel paints each pixel in the
    color with the largest positive value; where none reaches half of the scale, a line
    below says that no color raises the score, or by how much at most.

    Args:
        image (Tensor or numpy.ndarray): One image with values in [0, 1]: a tensor
            of shape (3, H, W) or (1, H, W), or an array of shape (H, W, 3) or
            (H, W, 1).
        maps (Tensor or numpy.ndarray): One map per color, in any unit: a tensor of
            shape (K, H, W) or an array of shape (H, W, K).
        colors (Tensor or numpy.ndarray): The colors of the maps, of shape (K, 3), as
            red, green, blue in [0, 1] (not in the model's normalized units).
        names (sequence[str], optional): K names of the colors.
            Default: None (hexadecimal codes)

    Returns:
        matplotlib.figure.Figure: A figure with axes for the image, each color (with
        its color bar as inset axes) and the best color.

    Raises:
        TypeError: If ``image``, ``maps`` or ``colors`` is neither a tensor nor an
            array.
        ValueError: If one of them has a wrong shape or contains NaN or infinity; if
            the image or a color is not in [0, 1]; if there are not K names.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import color_saliency_figure
        >>> figure = color_saliency_figure(
        ...     torch.rand(3, 64, 64),
        ...     torch.randn(2, 64, 64),
        ...     torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
        ...     names=["red", "white"],
        ... )
    """
    pixels = read_image(image, "image")
    palette = _read_colors(colors)
    values = np.moveaxis(read_array(maps, "maps", "HW"), -1, 0)
    if values.shape != (len(palette), *pixels.shape[:2]):
        raise ValueError(
            f"maps must hold one map for each of {len(palette)} colors, of the "
            f"image's size {pixels.shape[:2]}, got {len(values)} of size "
            f"{values.shape[1:]}."
        )
    if names is None:
        names = [to_hex(color) for color in palette]
    for name in check_sequence("names", names, "names"):
        check_instance("names", name, str)
    if len(names) != len(palette):
        raise ValueError(
            f"names must hold one name for each of {len(palette)} colors, got "
            f"{len(names)}."
        )
    scale, increase = robust_scale(values), float(values.max())
    values = rescaled(values, scale)

    titles = ["image", *names, "best color"]
    columns = _balanced_columns(len(titles))
    figure, panels = panel_grid(
        titles, columns, pixels.shape[:2], PANEL_INCHES, below=0.48
    )
    show(panels[0], pixels)
    for panel, color, strength in zip(panels[1:], palette, values):
        show(panel, painted(pixels, strength, color))
        _add_swatch(panel, color)
        _add_outline(panel, strength)
        _add_paint_bar(panel, color, scale)
    best, strength = best_colors(pixels, values, palette)
    show(panels[-1], best)
    _add_outline(panels[-1], strength)
    panels[-1].set_xlabel(_color_effect(increase, scale), fontsize=LABEL_SIZE)
    return figure


def _color_effect(increase: float, scale: float) -> str:
    """Words for colors that raise the score nowhere, or too little for a contour."""
    if increase <= 0:
        return "no color raises the score"
    if increase < OUTLINE * scale:
        return f"no color raises the score\nby more than {increase:.2g}"
    return ""


def _balanced_columns(n_panels: int) -> int:
    """Number of columns for the fewest rows, all of equal length but the last."""
    return ceil(n_panels / ceil(n_panels / MAX_COLUMNS))


def _read_colors(colors: ArrayLike) -> FloatArray:
    palette = finite_array(colors, "colors")
    if palette.ndim != 2 or palette.shape[1] != 3:
        raise ValueError(f"colors must have the shape (K, 3), got {palette.shape}.")
    if palette.min() < 0 or palette.max() > 1:
        raise ValueError(
            f"colors must be red, green, blue in [0, 1], got values from "
            f"{palette.min():.3g} to {palette.max():.3g}."
        )
    return palette


def _add_swatch(panel: Axes, color: FloatArray) -> None:
    """Set the background of the panel's title to its color."""
    panel.title.set_color("black" if color @ LUMA > 0.5 else "white")
    panel.title.set_bbox(
        {"facecolor": color, "edgecolor": "0.4", "boxstyle": "round,pad=0.2"}
    )


def _add_outline(panel: Axes, values: FloatArray, level: float = OUTLINE) -> None:
    """Enclose the values above a level."""
    if not values.min() < level < values.max():
        return
    # A dark line on a light one is visible on any color.
    for color, width in (("white", 1.8), ("black", 0.8)):
        panel.contour(
            values,
            [level],
            colors=color,
            linewidths=width,
            origin="upper",
            extent=panel.images[0].get_extent(),
        )


def _add_paint_bar(panel: Axes, color: FloatArray, scale: float) -> None:
    """Add a color bar below the panel, with dots of the panel's size."""
    height, width = panel.images[0].get_size()
    bar_height = BAR_DOTS * PIXELS_PER_DOT
    bar_width = DOTS_PER_SIDE * PIXELS_PER_DOT
    strength = np.tile(np.linspace(-1, 1, bar_width), (bar_height, 1))
    image = np.full((bar_height, bar_width, 3), 0.5)
    share = BAR_DOTS / DOTS_PER_SIDE * width / height
    bar = panel.inset_axes((0, -1.6 * share, 1, share))
    bar.imshow(painted(image, strength, color), aspect="auto", extent=(-1, 1, 0, 1))
    bar.set_yticks([])
    bar.set_xticks([-1, 0, 1], labels=[f"{-scale:.2g}", "0", f"{scale:.2g}"])
    bar.tick_params(labelsize=LABEL_SIZE, length=2, pad=2)
    align_ends(bar)
