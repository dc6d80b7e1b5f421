"""How values become colors: pure functions from arrays to RGB arrays in [0, 1].

Opacity grows with strength, so that the image stays visible where a map has nothing
to say. The color maps carry that opacity: at zero they are transparent.
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize

from captum_ext.visualization.array_conversion import FloatArray

__all__ = [
    "BLUE",
    "DIVERGING",
    "DOTS_PER_SIDE",
    "GOLD",
    "INK",
    "LUMA",
    "MAX_OPACITY",
    "OVERLAY_GRAYS",
    "PAINT_GRAYS",
    "PIXELS_PER_DOT",
    "RED",
    "SEQUENTIAL",
    "ZERO",
    "best_colors",
    "blend",
    "color_scale",
    "gray",
    "halftone",
    "opacity",
    "overlay",
    "painted",
]

LUMA = np.array([0.299, 0.587, 0.114])
INK = np.full(3, 0.08)
MAX_OPACITY = 0.85
# Lifted shadows keep the blue and red of a map apart from a dark image.
OVERLAY_GRAYS = (0.35, 0.95)
# Paint may be black or white, so the image below it keeps away from both.
PAINT_GRAYS = (0.4, 0.75)
DOTS_PER_SIDE = 26
PIXELS_PER_DOT = 24


def opacity(strength: FloatArray) -> FloatArray:
    """Opacity of the strengths, steep at zero: weak evidence is still seen."""
    return MAX_OPACITY * np.sin(np.pi / 2 * np.clip(strength, 0, 1))


def _ramp(*colors: str) -> FloatArray:
    """Colors (128, 4) for strengths from just above 0 to 1."""
    strength = np.linspace(0, 1, 129)[1:]
    rgba = LinearSegmentedColormap.from_list("ramp", colors)(strength)
    return np.column_stack([rgba[:, :3], opacity(strength)])


# Light blue and light orange, dark blue and dark red are told apart with every common
# color vision deficiency. Opacity does the fading: a ramp that starts at white would
# veil dark images and leave dark rings where a map crosses zero.
ZERO = np.array([[0.97, 0.97, 0.97, 0.0]])
RED = _ramp("#f6a27c", "#e8603c", "#c4203a", "#7f0014")
BLUE = _ramp("#86bfe8", "#3f8fd4", "#1a5dab", "#08306b")
GOLD = _ramp("#ffdf80", "#fdae3c", "#e8641b", "#b01010", "#5a0010")
# Zero has the one entry in the middle, or the first one.
DIVERGING = ListedColormap(np.vstack([BLUE[::-1], ZERO, RED]), "captum_ext_diverging")
SEQUENTIAL = ListedColormap(np.vstack([ZERO, GOLD]), "captum_ext_sequential")


def color_scale(signed: bool) -> tuple[ListedColormap, Normalize]:
    """The color map of rescaled values, and the interval that it spans."""
    return (DIVERGING, Normalize(-1, 1)) if signed else (SEQUENTIAL, Normalize(0, 1))


def gray(image: FloatArray, grays: tuple[float, float]) -> FloatArray:
    """An image (..., 3) as grays between the two given."""
    darkest, lightest = grays
    luma = (image @ LUMA)[..., None]
    return np.broadcast_to(darkest + (lightest - darkest) * luma, image.shape)


def blend(below: FloatArray, above: FloatArray, alpha: FloatArray) -> FloatArray:
    """Colors ``above`` (..., 3) over ``below`` (..., 3), opaque by ``alpha`` (...)."""
    return below + alpha[..., None] * (above - below)


def overlay(image: FloatArray, values: FloatArray, signed: bool) -> FloatArray:
    """Rescaled values (...) over the gray image (..., 3)."""
    colormap, norm = color_scale(signed)
    rgba = colormap(norm(values))
    return blend(gray(image, OVERLAY_GRAYS), rgba[..., :3], rgba[..., 3])


def painted(image: FloatArray, values: FloatArray, color: FloatArray) -> FloatArray:
    """The image painted in ``color`` by positive, dotted by negative values.

    Dots that grow with strength, not a second color: whatever the palette holds,
    black, white and gray included, no paint can be taken for its opposite. They need
    room, so the result is a multiple of the image's size.
    """
    factor = -(-DOTS_PER_SIDE * PIXELS_PER_DOT // max(values.shape))
    values = values.repeat(factor, 0).repeat(factor, 1)
    image = image.repeat(factor, 0).repeat(factor, 1)
    paint = blend(gray(image, PAINT_GRAYS), color, opacity(values))
    return blend(paint, INK, MAX_OPACITY * halftone(-values))


def halftone(strength: FloatArray) -> FloatArray:
    """1 inside dots whose area is proportional to the strength, 0 elsewhere."""
    rows, columns = np.indices(strength.shape) % PIXELS_PER_DOT
    center = (PIXELS_PER_DOT - 1) / 2
    distance = np.hypot(rows - center, columns - center)
    radius = np.sqrt(np.clip(strength, 0, 1)) * PIXELS_PER_DOT / 2
    return np.where(distance < radius, 1.0, 0.0)


def best_colors(
    image: FloatArray, values: FloatArray, colors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The color (K, 3) whose value (K, H, W) is largest at each pixel, if positive.

    Returns the painted image (H, W, 3) and the strength (H, W) of its paint.
    """
    strength = values.max(0).clip(0)
    best = colors[values.argmax(0)]
    return blend(gray(image, PAINT_GRAYS), best, opacity(strength)), strength
