"""Sizes to which CAMERAS resizes an image."""

from collections.abc import Sequence

import torch

from captum_ext._validation import check_integer
from captum_ext.targets import DetectionTarget

__all__ = ["check_any_size", "resolutions", "used_sizes"]


def resolutions(
    size: Sequence[int], max_size: Sequence[int], n_steps: int
) -> list[tuple[int, int]]:
    r"""Evenly spaced sizes :math:`\zeta_0 \ldots \zeta_m` without duplicates.

    Args:
        size (sequence of int): Height and width of the image, zeta_0.
        max_size (sequence of int): Largest height and width, zeta_m. An axis of at
            least that length keeps its own.
        n_steps (int): Number of sizes N, at least 1.

    Returns:
        *list[tuple[int, int]]*: Heights and widths, those of the image first.

    Examples::

        >>> resolutions((224, 224), (1000, 1000), 5)
        [(224, 224), (418, 418), (612, 612), (806, 806), (1000, 1000)]
    """
    axes = [
        torch.linspace(n, max(n, most), n_steps).round().int().tolist()
        for n, most in zip(size, max_size)
    ]
    return list(dict.fromkeys(zip(*axes)))


def used_sizes(
    size: tuple[int, int],
    max_size: int | Sequence[int],
    n_steps: int,
    sizes: Sequence[int | Sequence[int]] | None,
) -> list[tuple[int, int]]:
    """Sizes at which CAMERAS evaluates the layer, the image's own first.

    Args:
        size (tuple[int, int]): Height and width of the image in pixels.
        max_size (int or sequence of int): As in CAMERAS.
        n_steps (int): As in CAMERAS.
        sizes (sequence of int or of tuple[int, int], optional): As in CAMERAS.
    """
    n_steps = check_integer("n_steps", n_steps, 1)
    (most,) = _check_sizes("max_size", [max_size], size)
    if sizes is not None:
        return list(dict.fromkeys([size, *_check_sizes("sizes", sizes, size)]))
    return resolutions(size, most, n_steps)


def _check_sizes(
    name: str, sizes: Sequence[int | Sequence[int]], size: Sequence[int]
) -> list[tuple[int, int]]:
    """Heights and widths in pixels; an int is the longer side and keeps the ratio."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise TypeError(
            f"{name} must be a sequence of sizes, got {type(sizes).__name__}."
        )
    checked = []
    for entry in sizes:
        if isinstance(entry, Sequence) and not isinstance(entry, str):
            if len(entry) != 2:
                raise ValueError(f"{name} must be a height and a width, got {entry}.")
            height, width = (check_integer(name, n, 1) for n in entry)
        else:
            longer = check_integer(name, entry, 1)
            height, width = (max(1, round(longer * n / max(size))) for n in size)
        checked.append((height, width))
    return checked


def check_any_size(target: object) -> None:
    """Refuse boxes in pixels of the image, other places if the image is resized.

    Args:
        target (object): Target of a method that resizes images.

    Raises:
        ValueError: If it is or holds a :class:`DetectionTarget`.
    """
    for each in target if isinstance(target, list) else [target]:
        if isinstance(each, DetectionTarget):
            raise ValueError(
                "target must not be a DetectionTarget, whose box belongs to one size "
                "of the image: use LayerGradCamPlusPlus, or sizes=[]."
            )
