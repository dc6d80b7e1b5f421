"""Linear interpolation along one, two or three axes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["resize"]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps linearly along their 1, 2 or 3 spatial axes.

    Args:
        maps (Tensor): (B, C, ...).
        size (sequence of int): Lengths of the axes after the channel axis, in pixels.

    Returns:
        *Tensor*: (B, C, \\*size), corners not aligned; ``maps`` itself if it has that
        size.

    Examples::

        >>> resize(torch.rand(2, 1, 7, 7), (32, 48)).shape
        torch.Size([2, 1, 32, 48])
    """
    if maps.shape[2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, tuple(size), mode=_MODES[len(size)])
