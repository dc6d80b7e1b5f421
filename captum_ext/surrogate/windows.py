"""The windows that a surrogate is about: their parameters, pixels and averages.

A window is a square of side r round a pixel, in video for t frames. Its parameters are
what the Gaussian process sees: the center along each axis, in units of the shorter side
(of the length, along time), and log r (log t) in the same units.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["WindowGrid", "box_means"]

_MODES = {2: "bilinear", 3: "trilinear"}


class WindowGrid:
    """All windows that may be tried: each shape round each of a grid of centers.

    Args:
        size (sequence of int): (H, W) of images or (T, H, W) of video.
        sides (sequence of int): Sides r of the squares in pixels.
        durations (sequence of int): Numbers of frames t; ignored for images.
        stride (int): Pixels from one center to the next, about.

    Attributes:
        parameters (Tensor): Of the G windows, (G, 3) for images and (G, 5) for video,
            float64; shape by shape, centers in row-major order.

    Examples::

        >>> grid = WindowGrid((32, 48), sides=(9, 13), durations=(), stride=8)
        >>> grid.parameters.shape
        torch.Size([48, 3])
        >>> grid.masks(torch.tensor([9])).sum()
        tensor(81.)
    """

    def __init__(
        self,
        size: Sequence[int],
        sides: Sequence[int],
        durations: Sequence[int],
        stride: int,
    ) -> None:
        self.size = tuple(size)
        shorter = min(size[-2:])
        video = len(size) == 3
        self._units = torch.tensor([size[0]] * video + [shorter] * 2).double()
        # A video has few frames, and a step of a frame is a large one.
        strides = [max(1, stride * size[0] // shorter)] * video + [stride] * 2
        self._counts = [-(-n // step) for n, step in zip(size, strides)]
        lengths = [(t,) for t in durations] if video else [()]
        self._shapes = [(*t, r) for t, r in itertools.product(lengths, sides)]
        centers = [_centers(n, k) for n, k in zip(size, self._counts)]
        self.parameters = torch.cat([self._around(centers, s) for s in self._shapes])

    def _around(self, centers: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Parameters (n, d) of the windows of a shape round a product of centers."""
        at = torch.cartesian_prod(*centers) / self._units
        # (r,) in the unit of rows, or (t, r) in those of time and rows.
        lengths = torch.tensor(shape, dtype=torch.float64) / self._units[: len(shape)]
        return torch.cat([at, lengths.log().expand(len(at), -1)], 1)

    def bounds(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """First pixel of windows along each axis, and the one after the last.

        Args:
            parameters (Tensor): (..., d).

        Returns:
            *tuple[Tensor, Tensor]*: (..., n_axes) int64 each, cut at the borders.
        """
        n_axes = len(self.size)
        lengths = parameters[..., n_axes:].exp()
        # One side for rows and columns.
        lengths = lengths[..., [0, 0] if n_axes == 2 else [0, 1, 1]] * self._units
        centers = parameters[..., :n_axes] * self._units
        return _edges(centers, lengths.round(), torch.tensor(self.size))

    def masks(self, windows: Tensor) -> Tensor:
        """1 inside of windows and 0 outside.

        Args:
            windows (Tensor): Their indices, (...).

        Returns:
            *Tensor*: (..., H, W) or (..., T, H, W), float32.
        """
        starts, stops = self.bounds(self.parameters[windows])
        inside = torch.ones((*windows.shape, *(1,) * len(self.size)))
        for axis, n in enumerate(self.size):
            along = torch.arange(n)
            start, stop = starts[..., axis, None], stops[..., axis, None]
            within = (along >= start) & (along < stop)
            shape = [1] * len(self.size)
            shape[axis] = n
            inside = inside * within.reshape(*windows.shape, *shape)
        return inside

    def maps(self, values: Tensor, averaged: bool = True) -> Tensor:
        """The map that values of all windows make.

        Args:
            values (Tensor): One a window, (B, G).
            averaged (bool, optional): Whether a pixel gets the mean over the windows
                that cover it; the value of the window round it otherwise.
                Default: True

        Returns:
            *Tensor*: Mean over the shapes, (B, H, W) or (B, T, H, W).
        """
        total = values.new_zeros(len(values), *self.size)
        each = values.unflatten(1, (len(self._shapes), *self._counts))
        for shape, coarse in zip(self._shapes, each.unbind(1)):
            mode = _MODES[len(self.size)]
            fine = F.interpolate(coarse[:, None], self.size, mode=mode)[:, 0]
            if averaged:
                # The same side for rows and columns.
                for axis, length in enumerate((*shape, shape[-1])):
                    fine = _window_means(fine, axis + 1, length)
            total += fine
        return total / len(self._shapes)


def _centers(n: int, count: int) -> Tensor:
    """Middles of so many equal parts of an axis, in pixels."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * n / count - 0.5


def _edges(
    centers: Tensor, lengths: Tensor | int, most: Tensor | int
) -> tuple[Tensor, Tensor]:
    """First pixel of windows and the one after the last, cut at the borders."""
    # Halves are rounded down, whatever the rounding of the centers.
    first = (centers - (lengths - 1) / 2 - 0.5 - 1e-6).ceil().long()
    stop = first + torch.as_tensor(lengths).long()
    return first.clamp_min(0), torch.minimum(stop, torch.as_tensor(most))


def _window_means(maps: Tensor, axis: int, length: int) -> Tensor:
    """Mean along an axis over the window round each pixel."""
    n = maps.shape[axis]
    start, stop = _edges(torch.arange(n, dtype=torch.float64), length, n)
    sums = F.pad(maps.movedim(axis, -1), (1, 0)).cumsum(-1)
    means = (sums[..., stop] - sums[..., start]) / (stop - start)
    return means.movedim(-1, axis)


def box_means(maps: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Mean of maps over boxes, by a table of sums.

    Args:
        maps (Tensor): (B, ...) with n_axes axes behind the batch.
        start (Tensor): First pixel of each box, (..., n_axes).
        stop (Tensor): The one after the last, in the same shape.

    Returns:
        *Tensor*: (B, ...).

    Examples::

        >>> start, stop = torch.tensor([[0, 0], [0, 1]]), torch.tensor([[2, 2], [1, 2]])
        >>> box_means(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]), start, stop)
        tensor([[3., 2.]])
    """
    n_axes = maps.dim() - 1
    sums = F.pad(maps, (1, 0) * n_axes)
    for axis in range(1, n_axes + 1):
        sums = sums.cumsum(axis)
    total = torch.zeros(len(maps), *start.shape[:-1], dtype=maps.dtype)
    for corner in itertools.product((False, True), repeat=n_axes):
        edges = [stop if last else start for last in corner]
        at = tuple(edge[..., axis] for axis, edge in enumerate(edges))
        total += (-1) ** corner.count(False) * sums.movedim(0, -1)[at].movedim(-1, 0)
    return total / (stop - start).prod(-1)
