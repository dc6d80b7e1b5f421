"""Drawn road-sign scenes: images and videos whose correct explanation is known.

A scene shows a main sign, smaller signs, clutter and sometimes an occluder in front of
the main sign. Its class is the main sign's color, shape and glyph. Some classes differ
in only one of the three, so it is known where, and in which color, an attribution
should be high. A scene depends only on its seed.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset
from torchvision.ops import masks_to_boxes

from captum_ext._validation import check_integer
from captum_ext.zoo.scene_layout import (
    MAX_SIGNS,
    draw_backdrop,
    draw_lighting,
    draw_scene_layout,
    uniform,
)
from captum_ext.zoo.sign_drawing import (
    Style,
    paint_box,
    paint_pole,
    paint_sign,
    pixel_centers,
)

__all__ = [
    "COLOR_PAIRS",
    "SIGN_CLASSES",
    "SignDataset",
    "SignObject",
    "SignScene",
    "SignVideo",
    "sign_scene",
    "sign_video",
]

_STYLES = (
    Style("red", "circle", "bar"),
    Style("blue", "circle", "bar"),
    Style("red", "circle", "arrow"),
    Style("blue", "circle", "arrow"),
    Style("red", "triangle", "bar"),
    Style("blue", "triangle", "bar"),
    Style("red", "square", "cross"),
    Style("blue", "square", "cross"),
    Style("green", "square", "cross"),
    Style("blue", "square", "arrow"),
    Style("green", "square", "arrow"),
    Style("red", "octagon", "cross"),
    Style("green", "circle", "dot"),
    Style("yellow", "diamond", "dot"),
    Style("yellow", "diamond", "arrow"),
    Style("yellow", "triangle", "dot"),
)

SIGN_CLASSES = tuple(f"{color} {shape}, {glyph}" for color, shape, glyph in _STYLES)
"""Class names by label, such as ``"red circle, bar"``."""

COLOR_PAIRS = tuple(
    (i, j)
    for j in range(len(_STYLES))
    for i in range(j)
    if _STYLES[i][1:] == _STYLES[j][1:]
)
"""Pairs of labels whose classes differ only in color."""


class SignObject(NamedTuple):
    """One sign of a scene.

    Attributes:
        label (int): Class of the sign, an index into :data:`SIGN_CLASSES`.
        mask (Tensor): Pixels where the sign is visible, (H, W) bool.
        box (tuple): Bounding box (x0, y0, x1, y1) of the mask in pixels; x1 and y1 are
            exclusive, so ``mask[y0:y1, x0:x1]`` contains the whole mask.
    """

    label: int
    mask: Tensor
    box: tuple[int, int, int, int]


class SignScene(NamedTuple):
    """An image with its class and its signs.

    Attributes:
        image (Tensor): RGB image in [0, 1], (3, H, W) float32.
        label (int): Class of the main sign, an index into :data:`SIGN_CLASSES`.
        objects (tuple of SignObject): All signs, the main one (the largest) first.
    """

    image: Tensor
    label: int
    objects: tuple[SignObject, ...]


class SignVideo(NamedTuple):
    """A video in which the main sign moves.

    Attributes:
        image (Tensor): RGB video in [0, 1], (3, T, H, W) float32.
        label (int): Class of the main sign, an index into :data:`SIGN_CLASSES`.
        masks (Tensor): Visible pixels of the main sign in each frame, (T, H, W) bool.
        boxes (Tensor): Bounding boxes x0, y0, x1, y1 of the masks in pixels, x1 and y1
            exclusive, (T, 4) int64.
    """

    image: Tensor
    label: int
    masks: Tensor
    boxes: Tensor


def sign_scene(
    seed: int,
    size: int = 96,
    n_signs: int | None = None,
    label: int | None = None,
    occluded: bool | None = None,
) -> SignScene:
    r"""Draw a road-sign scene.

    Arguments that are None are drawn at random. Setting one of them changes nothing
    else: the same seed with the two labels of a color pair gives two images that differ
    only in the color of the main sign.

    Args:
        seed (int): Seed of the scene, 0 to 2**32 - 1. The built-in classifier was not
            trained on seeds below 2**31.
        size (int, optional): Height and width in pixels, at least 32. Except for pixel
            noise, the scene is the same at every size. Default: 96
        n_signs (int, optional): Number of signs, 1 to 4. Default: None (random)
        label (int, optional): Class of the main sign, an index into
            :data:`SIGN_CLASSES`. Default: None (random)
        occluded (bool, optional): Whether an occluder hides part of the main sign.
            Default: None (random)

    Returns:
        SignScene: Image, class and signs of the scene.

    Raises:
        TypeError: If ``seed``, ``size``, ``n_signs`` or ``label`` is not an int.
        ValueError: If one of them is out of range.

    Examples::

        >>> from captum_ext.zoo import sign_scene, SIGN_CLASSES
        >>> scene = sign_scene(0, label=0)
        >>> scene.image.shape, SIGN_CLASSES[scene.label]
        (torch.Size([3, 96, 96]), 'red circle, bar')
        >>> x0, y0, x1, y1 = scene.objects[0].box
    """
    generator = _generator(seed, size, n_signs, label)
    radius = uniform(generator, 0.19, 0.31)
    x, y = (uniform(generator, radius, 1 - radius) for _ in range(2))
    layout = draw_scene_layout(
        generator, (x, y), radius, len(_STYLES), label, n_signs, occluded
    )
    points = pixel_centers(size)
    image = draw_backdrop(generator, size)
    for box in layout.clutter:
        paint_box(image, box, points)
    signs = (layout.main, *layout.others)
    for sign in signs:
        paint_pole(image, sign, points)
    alphas = [paint_sign(image, s, _STYLES[s.label], points) for s in signs]
    if layout.occluder is not None:
        alphas[0] *= 1 - paint_box(image, layout.occluder, points)
    image *= draw_lighting(generator, size)
    masks = [alpha > 0.5 for alpha in alphas]
    return SignScene(
        _exposed(image, generator),
        layout.main.label,
        tuple(SignObject(s.label, m, _box(m)) for s, m in zip(signs, masks)),
    )


def sign_video(
    seed: int,
    n_frames: int = 16,
    size: int = 96,
    n_signs: int | None = None,
    label: int | None = None,
    occluded: bool | None = None,
) -> SignVideo:
    r"""Draw a video in which the main sign moves and changes its size.

    Args:
        seed (int): Seed of the video, 0 to 2**32 - 1.
        n_frames (int, optional): Number of frames T, at least 2. Default: 16
        size (int, optional): Height and width in pixels, at least 32. Default: 96
        n_signs (int, optional): Number of signs, 1 to 4. Default: None (random)
        label (int, optional): Class of the main sign, an index into
            :data:`SIGN_CLASSES`. Default: None (random)
        occluded (bool, optional): Whether the main sign passes behind an occluder.
            Default: None (random)

    Returns:
        SignVideo: Video, class, masks and boxes of the main sign.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If a number is out of range.

    Examples::

        >>> from captum_ext.zoo import sign_video
        >>> video = sign_video(0, n_frames=8)
        >>> video.image.shape, video.masks.shape, video.boxes.shape
        (torch.Size([3, 8, 96, 96]), torch.Size([8, 96, 96]), torch.Size([8, 4]))
    """
    generator = _generator(seed, size, n_signs, label)
    check_integer("n_frames", n_frames, 2, 10_000)
    radius = uniform(generator, 0.19, 0.25)
    x, y = (uniform(generator, 0.45, 0.55) for _ in range(2))
    heading, growth = uniform(generator, 0, 2 * math.pi), uniform(generator, -0.3, 0.3)
    layout = draw_scene_layout(
        generator, (x, y), radius, len(_STYLES), label, n_signs, occluded
    )
    points = pixel_centers(size)
    scenery = draw_backdrop(generator, size)
    for box in layout.clutter:
        paint_box(scenery, box, points)
    for sign in layout.others:
        paint_pole(scenery, sign, points)
        paint_sign(scenery, sign, _STYLES[sign.label], points)
    lighting = draw_lighting(generator, size)
    images, masks = [], []
    for time in torch.linspace(-0.5, 0.5, n_frames).tolist():
        center = (
            x + 0.34 * time * math.cos(heading),
            y + 0.34 * time * math.sin(heading),
        )
        main = layout.main._replace(center=center, radius=radius * (1 + growth * time))
        frame = scenery.clone()
        paint_pole(frame, main, points)
        alpha = paint_sign(frame, main, _STYLES[main.label], points)
        if layout.occluder is not None:
            alpha *= 1 - paint_box(frame, layout.occluder, points)
        images.append(_exposed(frame * lighting, generator))
        masks.append(alpha > 0.5)
    boxes = torch.tensor([_box(mask) for mask in masks])
    return SignVideo(
        torch.stack(images, 1), layout.main.label, torch.stack(masks), boxes
    )


class SignDataset(Dataset[tuple[Tensor, int]]):
    r"""Dataset of the scenes of ``n`` consecutive seeds, drawn on access.

    Item i holds the image and label of ``sign_scene(seed + i)``, independent of ``n``.

    Args:
        n (int): Number of scenes, at least 1.
        seed (int, optional): Seed of the first scene; that of the last one must be
            below 2**32. Default: 0
        size (int, optional): Height and width in pixels, at least 32. Default: 96

    Raises:
        TypeError: If a number is not an int.
        ValueError: If a number is out of range.

    Examples::

        >>> from captum_ext.zoo import SignDataset
        >>> image, label = SignDataset(100, seed=7)[3]
        >>> image.shape
        torch.Size([3, 96, 96])
    """

    def __init__(self, n: int, seed: int = 0, size: int = 96) -> None:
        self.n = check_integer("n", n, 1, 2**32)
        self.seed = check_integer("seed", seed, 0, 2**32 - self.n)
        self.size = check_integer("size", size, 32, 10_000)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < self.n:
            raise IndexError(f"index must lie between 0 and {self.n - 1}, got {index}.")
        scene = sign_scene(self.seed + int(index), self.size)
        return scene.image, scene.label


def _generator(
    seed: int, size: int, n_signs: int | None, label: int | None
) -> Generator:
    """Check the arguments of a scene and return its random number generator."""
    # torch's CPU generator uses 32 bits of its seed; with larger ones, scenes repeat.
    seed = check_integer("seed", seed, 0, 2**32 - 1)
    check_integer("size", size, 32, 10_000)
    if n_signs is not None:
        check_integer("n_signs", n_signs, 1, MAX_SIGNS)
    if label is not None:
        check_integer("label", label, 0, len(_STYLES) - 1)
    return Generator().manual_seed(seed)


def _exposed(image: Tensor, generator: Generator) -> Tensor:
    """Add camera noise in place and clip to [0, 1]."""
    noise = torch.randn(image.shape, generator=generator)
    return image.add_(noise, alpha=0.02).clamp_(0, 1)


def _box(mask: Tensor) -> tuple[int, int, int, int]:
    """Bounding box (x0, y0, x1, y1) of a mask (H, W), x1 and y1 exclusive."""
    x0, y0, x1, y1 = masks_to_boxes(mask[None])[0].int().tolist()
    return x0, y0, x1 + 1, y1 + 1
