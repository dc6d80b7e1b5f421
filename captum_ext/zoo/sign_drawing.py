"""Anti-aliased drawing of road signs, poles and boxes from signed distances.

A shape is a function from points to signed distances to its outline (negative inside),
from which its coverage of each pixel follows. Positions and lengths are fractions of
the image's side, with x to the right and y down, so a shape can be drawn at any
resolution.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Box",
    "COLORS",
    "Distance",
    "GLYPHS",
    "RIM",
    "SHAPES",
    "Sign",
    "Style",
    "coverage",
    "paint_box",
    "paint_pole",
    "paint_sign",
    "pixel_centers",
]

COLORS = {
    "red": (0.80, 0.07, 0.10),
    "blue": (0.06, 0.27, 0.74),
    "green": (0.04, 0.50, 0.24),
    "yellow": (0.98, 0.79, 0.10),
}
_WHITE, _BLACK = (0.95, 0.95, 0.95), (0.08, 0.08, 0.08)
RIM = 0.12


class Style(NamedTuple):
    """Appearance of a class: keys of ``COLORS``, ``SHAPES`` and ``GLYPHS``."""

    color: str
    shape: str
    glyph: str


class Sign(NamedTuple):
    """One sign: its class and its position and appearance in the image.

    ``center`` (x, y) and ``radius`` are fractions of the image's side, ``angle`` is
    in radians, ``width`` is the foreshortening of the horizontal axis, ``tint`` is
    added to the sign's color, ``pole`` is the gray value of its pole.
    """

    label: int
    center: tuple[float, float]
    radius: float
    angle: float
    width: float
    tint: tuple[float, float, float]
    pole: float


class Box(NamedTuple):
    """A rounded box: building, pole or bush.

    ``center`` (x, y) and ``half`` (half the width and height) are fractions of the
    image's side, ``angle`` is in radians, ``corner`` ranges from 0 (sharp) to 1
    (round), ``color`` is RGB in [0, 1].
    """

    center: tuple[float, float]
    half: tuple[float, float]
    angle: float
    corner: float
    color: tuple[float, float, float]


def pixel_centers(size: int) -> Tensor:
    """Coordinates (2, H, W) of pixel centers, x first, as fractions of the side."""
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y])


def coverage(distance: Tensor) -> Tensor:
    """Share (..., H, W) of each pixel that a shape covers, from signed distances."""
    return (0.5 - distance * distance.shape[-1]).clamp_(0, 1)


def paint_box(image: Tensor, box: Box, points: Tensor) -> Tensor:
    """Draw a box into the image (3, H, W) and return its coverage (H, W)."""
    x, y = _local(points, box.center, box.angle)
    rounding = box.corner * min(box.half)
    x = x.abs_().sub_(box.half[0] - rounding)
    y = y.abs_().sub_(box.half[1] - rounding)
    inside = torch.maximum(x, y).clamp_(max=0)
    outside = torch.hypot(x.clamp_(min=0), y.clamp_(min=0))
    alpha = coverage(inside + outside - rounding)
    image.lerp_(torch.tensor(box.color)[:, None, None], alpha)
    return alpha


def paint_pole(image: Tensor, sign: Sign, points: Tensor) -> None:
    """Draw a sign's pole down to the lower edge of the image (3, H, W)."""
    x, y = sign.center
    half = (0.09 * sign.radius, (1.05 - y) / 2)
    gray = (sign.pole, sign.pole, sign.pole)
    paint_box(image, Box((x, y + half[1]), half, 0.0, 0.0, gray), points)


def paint_sign(image: Tensor, sign: Sign, style: Style, points: Tensor) -> Tensor:
    """Draw a sign into the image (3, H, W) and return its coverage (H, W)."""
    outline, apothem = SHAPES[style.shape]
    x, y = _local(points, sign.center, sign.angle)
    local = torch.stack([x / sign.width, y]) / sign.radius
    distance = outline(local)
    glyph = GLYPHS[style.glyph](local / apothem) * apothem
    field = coverage(torch.maximum(distance + RIM, -glyph) * sign.radius)
    ink = torch.tensor(_BLACK if style.color == "yellow" else _WHITE)[:, None, None]
    fill = torch.tensor(COLORS[style.color]) + torch.tensor(sign.tint)
    alpha = coverage(distance * sign.radius)
    image.lerp_(ink + (fill.clamp_(0, 1)[:, None, None] - ink) * field, alpha)
    return alpha


def _local(
    points: Tensor, center: tuple[float, float], angle: float
) -> tuple[Tensor, Tensor]:
    """Coordinates x and y, (H, W) each, of points (2, H, W) along a shape's axes."""
    x, y = points[0] - center[0], points[1] - center[1]
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _polygon(points: Tensor, n_sides: int, apothem: float, turn: float) -> Tensor:
    """Regular polygon whose first side faces the angle ``turn`` from the x axis."""
    angles = turn + torch.arange(n_sides) * (2 * math.pi / n_sides)
    normals = torch.stack([angles.cos(), angles.sin()], 1)
    sides = normals @ points.flatten(1)
    return sides.amax(0).view(points.shape[1:]) - apothem


def _disc(points: Tensor, radius: float) -> Tensor:
    return torch.hypot(points[0], points[1]) - radius


def _box(points: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.maximum(points[0].abs() - half_width, points[1].abs() - half_height)


def _arrow(points: Tensor) -> Tensor:
    x, y = points
    head = _polygon(torch.stack([x, y + 0.18]), 3, 0.26, math.pi / 2)
    return torch.minimum(head, _box(torch.stack([x, y - 0.3]), 0.16, 0.36))


def _cross(points: Tensor) -> Tensor:
    x, y = points
    turned = torch.stack([x + y, x - y]) * math.sqrt(0.5)
    return torch.minimum(_box(turned, 0.66, 0.17), _box(turned, 0.17, 0.66))


# With these apothems all shapes have about the area of the unit circle, so that the
# main sign is the largest one whatever its shape.
_TRIANGLE, _SQUARE, _DIAMOND, _OCTAGON = 0.68, 0.84, 0.82, 0.94

Distance = Callable[[Tensor], Tensor]

SHAPES: dict[str, tuple[Distance, float]] = {
    "circle": (partial(_disc, radius=1.0), 1.0),
    "triangle": (
        partial(_polygon, n_sides=3, apothem=_TRIANGLE, turn=math.pi / 2),
        _TRIANGLE,
    ),
    "square": (partial(_polygon, n_sides=4, apothem=_SQUARE, turn=0.0), _SQUARE),
    "diamond": (
        partial(_polygon, n_sides=4, apothem=_DIAMOND, turn=math.pi / 4),
        _DIAMOND,
    ),
    "octagon": (partial(_polygon, n_sides=8, apothem=_OCTAGON, turn=0.0), _OCTAGON),
}

GLYPHS: dict[str, Distance] = {
    "bar": partial(_box, half_width=0.62, half_height=0.2),
    "arrow": _arrow,
    "cross": _cross,
    "dot": partial(_disc, radius=0.4),
}
