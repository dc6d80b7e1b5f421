"""Colors of scaled attributions: pure functions from arrays to RGB arrays in [0, 1].

Opacity increases with the magnitude and is part of the color maps: the image stays
visible where a map is near zero.
"""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import (
    Colormap,
    LinearSegmentedColormap,
    ListedColormap,
    Normalize,
)

from captum_ext.visualization.array_conversion import FloatArray

__all__ = [
    "BLUE",
    "DEVIATION",
    "DIVERGING",
    "DOTS_PER_SIDE",
    "GOLD",
    "INK",
    "LUMA",
    "MAX_OPACITY",
    "PAINT_GRAYS",
    "PIXELS_PER_DOT",
    "RED",
    "SATURATION",
    "SEQUENTIAL",
    "SHADE",
    "ZERO",
    "best_colors",
    "blend",
    "color_scale",
    "colored",
    "faded",
    "gray",
    "halftone",
    "heat_map",
    "opacity",
    "painted",
]

LUMA = np.array([0.299, 0.587, 0.114])
INK = np.full(3, 0.08)
MAX_OPACITY = 0.9
# Share of its color that an image keeps under a heat map: enough to recognize what is
# shown, too little for a red object to look like a heat map.
SATURATION = 0.25
# Brightness of a heat map on black: blue and red stay distinguishable. The luma of the
# image is added, which stays visible.
SHADE = 0.5
# Paint may be black or white, so the image below it is neither.
PAINT_GRAYS = (0.4, 0.75)
DOTS_PER_SIDE = 26
PIXELS_PER_DOT = 24


def opacity(strength: FloatArray) -> FloatArray:
    """Opacity by strength: weak values hardly change the image."""
    return MAX_OPACITY * np.clip(strength, 0, 1)


def _ramp(*colors: str) -> FloatArray:
    """Colors (128, 4) for strengths above 0 up to 1."""
    strength = np.linspace(0, 1, 129)[1:]
    rgba = LinearSegmentedColormap.from_list("ramp", colors)(strength)
    return np.column_stack([rgba[:, :3], opacity(strength)])


# Light blue and light orange, dark blue and dark red differ with all common color
# vision deficiencies. Colors fade by opacity: a ramp that starts at white would veil
# dark images and leave dark rings where a map crosses zero.
ZERO = np.array([[0.97, 0.97, 0.97, 0.0]])
RED = _ramp("#f6a27c", "#e8603c", "#c4203a")
BLUE = _ramp("#86bfe8", "#3f8fd4", "#1a5dab")
GOLD = _ramp("#ffe08a", "#fdae3c", "#e8641b", "#c01515")
# Zero is the middle entry of the diverging map and the first of the sequential one.
DIVERGING = ListedColormap(np.vstack([BLUE[::-1], ZERO, RED]), "captum_ext_diverging")
SEQUENTIAL = ListedColormap(np.vstack([ZERO, GOLD]), "captum_ext_sequential")
# Standard deviations have hues of their own, and one opacity: the least one is a value
# of its scale, not zero.
DEVIATION = ListedColormap(
    np.column_stack([colormaps["viridis"](np.arange(256))[:, :3], np.full(256, 0.75)]),
    "captum_ext_deviation",
)


def color_scale(signed: bool) -> tuple[ListedColormap, Normalize]:
    """Color map of scaled values and its range."""
    return (DIVERGING, Normalize(-1, 1)) if signed else (SEQUENTIAL, Normalize(0, 1))


def gray(image: FloatArray, grays: tuple[float, float]) -> FloatArray:
    """An image (..., 3) in grays from the first to the second value."""
    darkest, lightest = grays
    luma = (image @ LUMA)[..., None]
    return np.broadcast_to(darkest + (lightest - darkest) * luma, image.shape)


def faded(image: FloatArray) -> FloatArray:
    """An image (..., 3) with a part of its color, as under a heat map."""
    luma = (image @ LUMA)[..., None]
    return luma + SATURATION * (image - luma)


def blend(below: FloatArray, above: FloatArray, alpha: FloatArray) -> FloatArray:
    """Colors ``above`` over ``below``, (..., 3) each, with opacity ``alpha`` (...)."""
    return below + alpha[..., None] * (above - below)


def heat_map(image: FloatArray, values: FloatArray, signed: bool) -> FloatArray:
    """Scaled values (...) as a heat map over the image (..., 3)."""
    return colored(image, values, *color_scale(signed))


def colored(
    image: FloatArray, values: FloatArray, colormap: Colormap, norm: Normalize
) -> FloatArray:
    """Values (...) in the colors of their range over the image (..., 3).

    The colors are as light or dark as the image below them, which keeps its texture.
    """
    rgba = colormap(norm(values))
    shaded = rgba[..., :3] * (SHADE + (image @ LUMA)[..., None])
    return blend(faded(image), shaded.clip(0, 1), rgba[..., 3])


def painted(image: FloatArray, values: FloatArray, color: FloatArray) -> FloatArray:
    """The image painted in ``color`` at positive values and dotted at negative ones.

    Dots, instead of a second color, mark negative values: they cannot be confused with
    any paint, including black, white and gray. Dots need several pixels, so the result
    is a multiple of the image's size.
    """
    factor = -(-DOTS_PER_SIDE * PIXELS_PER_DOT // max(values.shape))
    values = values.repeat(factor, 0).repeat(factor, 1)
    image = image.repeat(factor, 0).repeat(factor, 1)
    paint = blend(gray(image, PAINT_GRAYS), color, opacity(values))
    return blend(paint, INK, MAX_OPACITY * halftone(-values))


def halftone(strength: FloatArray) -> FloatArray:
    """Dots with an area proportional to the strength: 1 inside, 0 outside."""
    rows, columns = np.indices(strength.shape) % PIXELS_PER_DOT
    center = (PIXELS_PER_DOT - 1) / 2
    distance = np.hypot(rows - center, columns - center)
    radius = np.sqrt(np.clip(strength, 0, 1)) * PIXELS_PER_DOT / 2
    return np.where(distance < radius, 1.0, 0.0)


def best_colors(
    image: FloatArray, values: FloatArray, colors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The image painted in the color (K, 3) of the largest positive value (K, H, W).

    Returns the painted image (H, W, 3) and the largest values (H, W), at least 0.
    """
    strength = values.max(0).clip(0)
    best = colors[values.argmax(0)]
    return blend(gray(image, PAINT_GRAYS), best, opacity(strength)), strength
