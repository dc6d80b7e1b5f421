"""Grid of windows: their parameters, masks and means.

A window is a square of side r around a pixel, in video for t frames. Its parameters are
the inputs of the Gaussian process: the position along each axis, in units of the
shorter side (of the number of frames, along time), and log r (log t) in the same units.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext._interpolation import resize

__all__ = ["WindowGrid", "box_means"]

# Side of the images for which the authors give lengths.
_AUTHORS_SIDE = 224


class WindowGrid:
    """All candidate windows: each shape at each position of a grid.

    Args:
        size (sequence of int): (H, W) of images or (T, H, W) of video.
        sides (sequence of int): Sides r of the squares in pixels.
        durations (sequence of int): Numbers of frames t; ignored for images.
        stride (int): Approximate distance between neighboring positions in pixels.
        frames (str, optional): Frames of a window at frame n: "centered" for the t
            frames around it, "following" for n to n + t - 1. Default: "centered"

    Attributes:
        parameters (Tensor): Parameters of the G windows, (G, 3) for images and (G, 5)
            for video, float64; shape by shape, positions in row-major order.

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
        frames: Literal["centered", "following"] = "centered",
    ) -> None:
        self.size = tuple(size)
        shorter = min(size[-2:])
        video = len(size) == 3
        self._follows = video and frames == "following"
        self._units = torch.tensor([size[0]] * video + [shorter] * 2).double()
        # A video has few frames, so its stride along time is shorter.
        strides = [max(1, stride * size[0] // shorter)] * video + [stride] * 2
        self._counts = [-(-n // step) for n, step in zip(size, strides)]
        lengths = [(t,) for t in durations] if video else [()]
        self._shapes = [(*t, r) for t, r in itertools.product(lengths, sides)]
        centers = [_centers(n, k) for n, k in zip(size, self._counts)]
        self.parameters = torch.cat([self._around(centers, s) for s in self._shapes])

    def _around(self, centers: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Parameters (n, d) of the windows of a shape around a product of centers."""
        at = torch.cartesian_prod(*centers) / self._units
        # (r,) in the unit of rows, or (t, r) in those of time and rows.
        lengths = torch.tensor(shape, dtype=torch.float64) / self._units[: len(shape)]
        return torch.cat([at, lengths.log().expand(len(at), -1)], 1)

    def bounds(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """First pixel of windows along each axis, and the pixel after the last.

        Args:
            parameters (Tensor): Parameters of windows, (..., d).

        Returns:
            *tuple[Tensor, Tensor]*: (..., n_axes) int64 each, clipped at the borders.
        """
        n_axes = len(self.size)
        lengths = parameters[..., n_axes:].exp()
        # One side for rows and columns.
        lengths = lengths[..., [0, 0] if n_axes == 2 else [0, 1, 1]] * self._units
        lengths = lengths.round()
        centers = parameters[..., :n_axes] * self._units
        if self._follows:
            centers[..., 0] += (lengths[..., 0] - 1) / 2
        return _edges(centers, lengths, torch.tensor(self.size))

    def authors_parameters(self) -> Tensor:
        """Parameters in the units of the authors' lengthscales, (G, d).

        Positions and half-sides in pixels of an image of 224 pixels, and frames.
        """
        n_axes = len(self.size)
        frames = self.size[:-2]
        units = [*frames, _AUTHORS_SIDE, _AUTHORS_SIDE, *frames, _AUTHORS_SIDE / 2]
        positions, logs = self.parameters[:, :n_axes], self.parameters[:, n_axes:]
        return torch.cat([positions, logs.exp()], 1) * torch.tensor(units).double()

    def means(self, maps: Tensor) -> Tensor:
        """Mean of maps over each window.

        Args:
            maps (Tensor): (B, H, W) or (B, T, H, W).

        Returns:
            *Tensor*: (B, G).
        """
        return box_means(maps, *self.bounds(self.parameters))

    def values(self, maps: Tensor) -> Tensor:
        """Value of maps at the position of each window.

        Args:
            maps (Tensor): (B, H, W) or (B, T, H, W).

        Returns:
            *Tensor*: (B, G).
        """
        centers = self.parameters[:, : len(self.size)] * self._units
        pixels, _ = _edges(centers, 1, torch.tensor(self.size))
        return maps.movedim(0, -1)[pixels.unbind(1)].mT

    def masks(self, windows: Tensor) -> Tensor:
        """Masks that are 1 inside windows and 0 outside.

        Args:
            windows (Tensor): Indices of windows, (...).

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

    def maps(
        self, values: Tensor, weighting: Literal["window", "mean", "area"] = "window"
    ) -> Tensor:
        """Map from values of all windows.

        Args:
            values (Tensor): One value per window, (B, G).
            weighting (str, optional): What a pixel gets: "window" for the mean over the
                windows that cover it, "mean" for the value of the window at it, "area"
                for that value divided by the size of the window in pixels.
                Default: "window"

        Returns:
            *Tensor*: Mean over the shapes, (B, H, W) or (B, T, H, W).
        """
        total = values.new_zeros(len(values), *self.size)
        each = values.unflatten(1, (len(self._shapes), *self._counts))
        for shape, coarse in zip(self._shapes, each.unbind(1)):
            fine = resize(coarse[:, None], self.size)[:, 0]
            # The same side for rows and columns.
            lengths = (*shape, shape[-1])
            if weighting == "window":
                for axis, length in enumerate(lengths):
                    follows = self._follows and axis == 0
                    fine = _window_means(fine, axis + 1, length, follows)
            elif weighting == "area":
                fine = fine / math.prod(lengths)
            total += fine
        return total / len(self._shapes)


def _centers(n: int, count: int) -> Tensor:
    """Centers of ``count`` equal parts of an axis, in pixels."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * n / count - 0.5


def _edges(
    centers: Tensor, lengths: Tensor | int, most: Tensor | int
) -> tuple[Tensor, Tensor]:
    """First pixel of windows and the pixel after the last, clipped at the borders."""
    # Halves are rounded down, whatever the rounding of the centers.
    first = (centers - (lengths - 1) / 2 - 0.5 - 1e-6).ceil().long()
    stop = first + torch.as_tensor(lengths).long()
    return first.clamp_min(0), torch.minimum(stop, torch.as_tensor(most))


def _window_means(maps: Tensor, axis: int, length: int, follows: bool) -> Tensor:
    """Mean along an axis over the positions of the windows that cover each pixel."""
    n = maps.shape[axis]
    centers = torch.arange(n, dtype=torch.float64)
    if follows:
        centers = centers + (length - 1) / 2
    # The centers of the windows that cover a pixel are those of the pixels that a
    # window covers, mirrored.
    stop, start = (n - edge.flip(0) for edge in _edges(centers, length, n))
    sums = F.pad(maps.movedim(axis, -1), (1, 0)).cumsum(-1)
    means = (sums[..., stop] - sums[..., start]) / (stop - start)
    return means.movedim(-1, axis)


def box_means(maps: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Mean of maps over boxes, by a summed-area table.

    Args:
        maps (Tensor): Maps (B, ...) with n_axes axes after the batch axis.
        start (Tensor): First pixel of each box, (..., n_axes).
        stop (Tensor): Pixel after the last, in the same shape.

    Returns:
        *Tensor*: Means (B, ...).

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
