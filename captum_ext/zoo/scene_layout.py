"""Random layout, backdrop and lighting of a road-sign scene.

Lengths are fractions of the image's side and noise is drawn on grids of fixed size, so
the random numbers do not depend on the resolution.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from captum_ext.zoo.sign_drawing import Box, Sign

__all__ = [
    "MAX_SIGNS",
    "SceneLayout",
    "draw_backdrop",
    "draw_lighting",
    "draw_scene_layout",
    "uniform",
]

MAX_SIGNS = 4
# Corners extend beyond the radius, and signs should not touch.
_REACH = 1.35


class SceneLayout(NamedTuple):
    """Shapes of a scene, from back to front."""

    clutter: list[Box]
    others: list[Sign]
    main: Sign
    occluder: Box | None


def uniform(generator: Generator, low: float, high: float) -> float:
    """Draw a random number between low and high."""
    return low + (high - low) * torch.rand(1, generator=generator).item()


def draw_scene_layout(
    generator: Generator,
    center: tuple[float, float],
    radius: float,
    n_classes: int,
    label: int | None,
    n_signs: int | None,
    occluded: bool | None,
) -> SceneLayout:
    """Draw a layout around a main sign; arguments that are None are random.

    Every random number is drawn whether or not it is used, so that setting an argument
    changes nothing else.
    """
    labels = torch.randint(n_classes, (MAX_SIGNS,), generator=generator).tolist()
    drawn_n_signs = int(torch.randint(1, MAX_SIGNS + 1, (1,), generator=generator))
    drawn_occluded = uniform(generator, 0, 1) < 0.3
    main = _sign(generator, labels[0] if label is None else label, center, radius)
    occluder = _occluder(generator, main)
    taken = [(*center, radius), (*occluder.center, max(occluder.half))]
    others = []
    for other in labels[1:]:
        x, y, clearance = _free_spot(generator, taken, radius)
        others.append(_sign(generator, other, (x, y), clearance))
        taken.append((x, y, clearance))
    n_others = (drawn_n_signs if n_signs is None else n_signs) - 1
    hidden = drawn_occluded if occluded is None else occluded
    clutter = _clutter(generator)
    return SceneLayout(clutter, others[:n_others], main, occluder if hidden else None)


def draw_backdrop(generator: Generator, size: int) -> Tensor:
    """Draw a sky above a ground, both with noise and texture: (3, H, W)."""
    usual = torch.tensor([[0.62, 0.74, 0.88], [0.36, 0.40, 0.26]])
    sky, ground = usual.lerp(torch.rand(2, 3, generator=generator), 0.4)
    horizon, blur = uniform(generator, 0.45, 0.85), uniform(generator, 0.01, 0.15)
    rows = (torch.arange(size) + 0.5) / size
    share = torch.sigmoid((rows - horizon) / blur)[:, None]
    image: Tensor = sky[:, None, None].lerp(ground[:, None, None], share)
    image = image + 0.25 * _noise(generator, 3, 4, size)
    for cells in (10, 40):
        texture = uniform(generator, 0.0, 0.25) * _noise(generator, 1, cells, size)
        image = image + texture * share.lerp(torch.ones(()), 0.3)
    return image.clamp_(0, 1).expand(3, size, size).contiguous()


def draw_lighting(generator: Generator, size: int) -> Tensor:
    """Draw a smooth brightness factor around 1 for each pixel: (1, H, W)."""
    return uniform(generator, 0.75, 1.1) + 0.4 * _noise(generator, 1, 3, size)


def _noise(generator: Generator, channels: int, cells: int, size: int) -> Tensor:
    """Draw smooth noise (C, H, W) between -0.5 and 0.5 with cells x cells patches."""
    grid = torch.rand(1, channels, cells, cells, generator=generator) - 0.5
    return interpolate(grid, (size, size), mode="bilinear", align_corners=True)[0]


def _color(generator: Generator, vividness: float) -> tuple[float, float, float]:
    """Draw a color: any at vividness 1, a gray at 0."""
    color = torch.rand(3, generator=generator)
    red, green, blue = color.mean().lerp(color, vividness).tolist()
    return red, green, blue


def _sign(
    generator: Generator, label: int, center: tuple[float, float], radius: float
) -> Sign:
    angle, width = uniform(generator, -0.2, 0.2), uniform(generator, 0.8, 1.0)
    red, green, blue = (torch.rand(3, generator=generator) * 0.16 - 0.08).tolist()
    pole = uniform(generator, 0.2, 0.7)
    return Sign(label, center, radius, angle, width, (red, green, blue), pole)


def _occluder(generator: Generator, sign: Sign) -> Box:
    """Draw a box that hides part of the sign's rim but not its center."""
    around, (x, y) = uniform(generator, 0, 2 * math.pi), sign.center
    reach = 0.8 * sign.radius
    width, height = (sign.radius * uniform(generator, 0.3, 0.6) for _ in range(2))
    return Box(
        (x + reach * math.cos(around), y + reach * math.sin(around)),
        (width, height),
        uniform(generator, 0, math.pi),
        uniform(generator, 0, 1),
        _color(generator, 0.3),
    )


def _free_spot(
    generator: Generator, taken: list[tuple[float, float, float]], radius: float
) -> tuple[float, float, float]:
    """Draw (x, y, radius) of a sign smaller than ``radius`` outside of the discs."""
    wanted = radius * uniform(generator, 0.38, 0.58)
    spots = torch.rand(256, 2, generator=generator)
    discs = torch.tensor(taken)
    clear = torch.cdist(spots, discs[:, :2]) / _REACH - discs[:, 2]
    border = torch.minimum(spots, 1 - spots)
    clearance = torch.cat([clear, border], 1).amin(1).clamp(max=wanted)
    best = int(clearance.argmax())
    x, y = spots[best].tolist()
    return x, y, clearance[best].item()


def _clutter(generator: Generator) -> list[Box]:
    """Draw 5 to 9 boxes of all sizes: buildings, posts and bushes."""
    boxes = []
    for i in range(int(torch.randint(5, 10, (1,), generator=generator))):
        x, y, angle = (uniform(generator, 0, 1) for _ in range(3))
        width, height = (0.015 * 20 ** uniform(generator, 0, 1) for _ in range(2))
        stands = i % 2 == 0
        boxes.append(
            Box(
                (x, 0.95 - height if stands else y),
                (width, height),
                (angle - 0.5) * (0.1 if stands else math.pi),
                min(max(uniform(generator, -0.5, 1.5), 0.0), 1.0),
                _color(generator, 1.0 if i % 3 == 1 else 0.4),
            )
        )
    return boxes
