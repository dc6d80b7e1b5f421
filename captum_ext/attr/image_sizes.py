"""Sizes to which CAMERAS resizes an image."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch

from captum_ext._type_checks import check_sequence
from captum_ext._validation import check_choice, check_integer
from captum_ext.targets import DetectionTarget

__all__ = [
    "Size",
    "SizeRule",
    "aligned_sizes",
    "check_any_size",
    "checked_sizes",
    "describe_sizes",
    "list_rule",
    "next_step",
    "resolutions",
    "search_rule",
]

Size = tuple[int, int]
SizeRule = Callable[[Mapping[Size, bool]], Size | None]
"""Function of the sizes tried, with whether the prediction held, to the next size."""


def resolutions(
    size: Sequence[int], max_size: Sequence[int], n_steps: int
) -> list[Size]:
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


def aligned_sizes(
    size: Sequence[int], max_size: Sequence[int], stride: Sequence[int]
) -> list[Size]:
    """The size of an image, and all larger ones that are multiples of a stride.

    The shorter side grows by one stride at a time, the other in proportion, rounded to
    a multiple.

    Args:
        size (sequence of int): Height and width of the image.
        max_size (sequence of int): Largest height and width. An axis of at least that
            length keeps its own.
        stride (sequence of int): Pixels from one position of the layer to the next,
            along the height and the width.

    Returns:
        *list[tuple[int, int]]*: Heights and widths, those of the image first.

    Examples::

        >>> aligned_sizes((224, 224), (320, 320), (32, 32))
        [(224, 224), (256, 256), (288, 288), (320, 320)]
        >>> aligned_sizes((224, 300), (1000, 330), (32, 32))[:3]
        [(224, 300), (256, 320), (288, 320)]
    """
    axis = 0 if size[0] <= size[1] else 1
    first = size[axis] // stride[axis] + 1
    last = max_size[axis] // stride[axis]
    found = [(size[0], size[1])]
    for n_strides in range(first, last + 1):
        ratio = n_strides * stride[axis] / size[axis]
        height, width = (
            _nearest_multiple(n * ratio, s, n, most)
            for n, most, s in zip(size, max_size, stride)
        )
        found.append((height, width))
    return list(dict.fromkeys(found))


def _nearest_multiple(length: float, stride: int, least: int, most: int) -> int:
    """Multiple of a stride from ``least`` to ``most``; ``least`` if there is none."""
    first, last = -(-least // stride), most // stride
    if first > last:
        return least
    return min(max(round(length / stride), first), last) * stride


def next_step(tried: Mapping[int, bool], n_sizes: int) -> int | None:
    """Next of the sizes 0 ... n_sizes - 1 in the search for the largest that holds.

    Steps double as long as the prediction holds (1, 3, 7, ...); after a failure the gap
    is halved. When the largest size is found, the sizes below it follow, those in the
    middle of the widest gap first.

    Args:
        tried (mapping from int to bool): Whether the prediction held at the sizes
            tried, of which 0 is the image's own.
        n_sizes (int): Number of sizes.

    Returns:
        *int or None*: Size to try next; None if there is none left.

    Examples::

        >>> next_step({0: True}, 20), next_step({0: True, 1: True, 3: False}, 20)
        (1, 2)
        >>> next_step({0: True, 1: True, 3: True, 7: False, 5: False, 4: False}, 20)
        2
    """
    largest = max(k for k, holds in tried.items() if holds)
    end = min((k for k in tried if k > largest), default=n_sizes)
    if end == n_sizes and largest < n_sizes - 1:
        return min(2 * largest + 1, n_sizes - 1)
    if end - largest > 1:
        return (largest + end) // 2
    below = sorted(k for k in tried if k <= largest)
    gap, low = max(((b - a, a) for a, b in pairwise(below)), default=(0, 0))
    return low + gap // 2 if gap > 1 else None


def search_rule(sizes: Sequence[Size], n_steps: int) -> SizeRule:
    """Rule that searches for the largest size at which the prediction holds.

    Args:
        sizes (sequence of tuple[int, int]): Sizes in increasing order, the image's own
            first.
        n_steps (int): Number of sizes to try, with the image's own.
    """
    place = {size: k for k, size in enumerate(sizes)}

    def rule(tried: Mapping[Size, bool]) -> Size | None:
        if len(tried) >= n_steps:
            return None
        steps = {place[size]: holds for size, holds in tried.items()}
        step = next_step(steps, len(sizes))
        return None if step is None else sizes[step]

    return rule


def list_rule(sizes: Sequence[Size]) -> SizeRule:
    """Rule that tries all given sizes, whether the prediction holds or not."""
    return lambda tried: next((size for size in sizes if size not in tried), None)


def checked_sizes(
    size: Size,
    max_size: int | Sequence[int],
    n_steps: int,
    sizes: str | Sequence[int | Sequence[int]],
) -> tuple[Size, int, list[Size] | None]:
    """Arguments of CAMERAS that say at which sizes it evaluates the layer.

    Args:
        size (tuple[int, int]): Height and width of the image in pixels.
        max_size (int or sequence of int): As in CAMERAS.
        n_steps (int): As in CAMERAS.
        sizes (str or sequence of int or of tuple[int, int]): As in CAMERAS.

    Returns:
        *tuple[tuple[int, int], int, list or None]*: Largest height and width, the
        number of sizes, and the sizes themselves, the image's own first; None if they
        are searched.
    """
    n_steps = check_integer("n_steps", n_steps, 1)
    (most,) = _check_sizes("max_size", [max_size], size)
    if isinstance(sizes, str):
        check_choice("sizes", sizes, ("search", "paper"))
        evenly = resolutions(size, most, n_steps) if sizes == "paper" else None
        return most, n_steps, evenly
    checked = [size, *_check_sizes("sizes", sizes, size)]
    return most, n_steps, list(dict.fromkeys(checked))


def describe_sizes(tried: Mapping[Size, bool]) -> str:
    """Sizes at which the prediction held, and all sizes tried, in words.

    Args:
        tried (mapping from tuple[int, int] to bool): Heights and widths, and whether
            the prediction held.

    Examples::

        >>> describe_sizes({(224, 224): True, (256, 256): True, (320, 320): False})
        'sizes kept 224, 256 of 224, 256, 320'
    """
    square = all(height == width for height, width in tried)
    names = {
        (height, width): str(height) if square else f"{height} x {width}"
        for height, width in sorted(tried)
    }
    kept = ", ".join(name for size, name in names.items() if tried[size])
    return f"sizes kept {kept} of {', '.join(names.values())}"


def _check_sizes(
    name: str, sizes: Sequence[int | Sequence[int]], size: Sequence[int]
) -> list[tuple[int, int]]:
    """Heights and widths in pixels; an int is the longer side and keeps the ratio."""
    checked = []
    for entry in check_sequence(name, sizes, "sizes"):
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
    """Check that a target holds no boxes, which do not move with a resized image.

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
