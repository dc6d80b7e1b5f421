"""Grid layout of RISE: a coarse random grid, enlarged and shifted."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext._interpolation import resize
from captum_ext._validation import check_integer, check_integers
from captum_ext.masks.layout import DeviceCopies, MaskLayout

__all__ = ["GridLayout", "enlarged_cells"]


# Numbers in the rows that are expanded at a time; the rows of all shifts of a long axis
# would take memory that grows with the square of its length.
_NUMBERS_AT_ONCE = 2**22


def enlarged_cells(size: int, n_cells: int) -> Tensor:
    """Weights of the cells in each pixel of an enlarged axis.

    An axis of n_cells cells is enlarged linearly to (n_cells + 1) * ceil(size /
    n_cells) pixels, of which ``size`` are cut out at a random shift shorter than one
    cell (RISE, section 3.2; lines 9 and 10 of Algorithm 1 in the supplement of
    MC-RISE).

    Args:
        size (int): Length of the axis in pixels.
        n_cells (int): Number of cells along it.

    Returns:
        *Tensor*: ((n_cells + 1) * ceil(size / n_cells), n_cells) float32; each row
        sums to 1.

    Examples::

        >>> enlarged_cells(4, 2).shape
        torch.Size([6, 2])
    """
    size = check_integer("size", size, 1)
    n_cells = check_integer("n_cells", n_cells, 1, size)
    enlarged = (n_cells + 1) * math.ceil(size / n_cells)
    return resize(torch.eye(n_cells)[None], [enlarged])[0].T


class _Axis:
    """One axis of a grid: its enlarged cells, pooled windows and their covariance.

    Attributes:
        n_shifts (int): Number of equally likely shifts.
        pooled (Tensor): Weights of the cells in each of a few windows for every shift,
            (n_shifts, n_windows, n_cells).
        covariance (Tensor): Mean over shifts of the products of pixels and windows,
            (size, n_windows) float64.
    """

    def __init__(self, size: int, n_cells: int) -> None:
        from scipy import signal

        self.n_shifts = math.ceil(size / n_cells)
        self._size, enlarged = size, enlarged_cells(size, n_cells)
        self._n_cells, self._enlarged = n_cells, DeviceCopies(enlarged)
        # One window per visible cell of an enlarged grid; finer windows do not help.
        n_windows = min(n_cells + 1, size)
        starts = torch.arange(n_windows) * size // n_windows
        stops = -(-torch.arange(1, n_windows + 1) * size // n_windows)
        shifts = torch.arange(self.n_shifts)[:, None]
        enlarged = enlarged.double()
        below = F.pad(enlarged.cumsum(0), (0, 0, 1, 0))
        sums = below[shifts + stops] - below[shifts + starts]
        pooled = sums / (stops - starts)[:, None]
        products = [
            signal.correlate(enlarged.numpy(), window.numpy(), mode="valid")[:size, 0]
            for window in pooled.unbind(1)
        ]
        self.covariance = torch.from_numpy(np.stack(products, axis=1)) / self.n_shifts
        self.pooled = pooled.float()

    def rows(self, shifts: Tensor) -> Tensor:
        """Weights of the cells in each pixel at the given shifts, (M, size, cells)."""
        pixels = torch.arange(self._size, device=shifts.device)
        return self._enlarged.on(shifts.device)[shifts.long()[:, None] + pixels]

    def blocks(self, shifts: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The given shifts in blocks, each with its rows."""
        step = max(1, _NUMBERS_AT_ONCE // (self._size * self._n_cells))
        for start in range(0, len(shifts), step):
            block = slice(start, start + step)
            yield block, self.rows(shifts[block])


class GridLayout(MaskLayout):
    """A random grid over the pixels of one input: a sequence, images or video.

    A mask is the same for all examples of a batch and for all channels.

    Args:
        size (sequence of int): Lengths of the masked axes in pixels, for example
            (H, W) or (T, H, W).
        grid (sequence of int): Number of cells along each of them.

    Examples::

        >>> layout = GridLayout((224, 224), (7, 7))
        >>> codes = draw_masks(layout, (0.5, 0.5), 8, torch.Generator().manual_seed(0))
        >>> (hidden,) = layout.expand(codes.indicators(1), codes.shifts)
        >>> hidden.shape
        torch.Size([8, 1, 1, 1, 224, 224])
    """

    def __init__(self, size: Sequence[int], grid: Sequence[int]) -> None:
        size = check_integers("size", size, 1)
        self._grid = check_integers("grid", grid, 1)
        if len(self._grid) != len(size) or any(g > n for g, n in zip(self._grid, size)):
            raise ValueError(
                f"grid must hold as many cells for each axis of {size} pixels as it "
                f"has pixels or fewer, got {self._grid}."
            )
        self._axes = [_Axis(n, s) for n, s in zip(size, self._grid)]
        self._windows = [axis.pooled.shape[1] for axis in self._axes]
        super().__init__(
            n_cells=math.prod(self._grid),
            n_shifts=tuple(axis.n_shifts for axis in self._axes),
            n_features=math.prod(self._windows),
            norm=math.prod(
                float(axis.pooled.double().square().sum()) / axis.n_shifts
                for axis in self._axes
            ),
        )

    def _spread(self, values: Tensor, weights: Sequence[Tensor]) -> Tensor:
        values = values.unflatten(2, self._grid)
        for rows in weights:
            # Contracts the first remaining cell axis and appends its pixel axis.
            values = torch.einsum("mkc...,mhc->mk...h", values, rows.to(values))
        return values

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        rows = [axis.rows(o) for axis, o in zip(self._axes, shifts.unbind(1))]
        return (self._spread(values, rows)[:, :, None, None],)

    def features(self, values: Tensor, shifts: Tensor) -> Tensor:
        rows = [axis.pooled[o.long()] for axis, o in zip(self._axes, shifts.unbind(1))]
        return self._spread(values, rows).flatten(2)

    def accumulate(
        self, weights: Tensor, values: Tensor, shifts: Tensor
    ) -> tuple[Tensor, ...]:
        # Masks of equal shifts are added up as cells and expanded once.
        used = [along.unique(return_inverse=True) for along in shifts.unbind(1)]
        n_used = [len(present) for present, _ in used]
        shift = torch.zeros(len(values), dtype=torch.long)
        for present, index in used:
            shift = shift * len(present) + index
        weighted = torch.einsum("mkc,mb->mkbc", values.to(weights), weights)
        total = weights.new_zeros(math.prod(n_used), *weighted.shape[1:])
        total.index_add_(0, shift, weighted)
        total = total.unflatten(3, self._grid).unflatten(0, n_used)
        for i, (axis, (present, _)) in enumerate(zip(self._axes, used)):
            # The axes are the remaining shifts, K, B, the remaining cells, the pixels.
            both = ([0, len(used) - i + 2], [0, 2])
            total = sum(
                torch.tensordot(total[block], rows.to(total), dims=both)
                for block, rows in axis.blocks(present)
            )
        return (total[:, :, None],)

    def correlate(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        values = coefficients.transpose(1, 2).unflatten(2, self._windows)
        for axis in self._axes:
            covariance = axis.covariance.to(values)
            values = torch.tensordot(values, covariance, dims=([2], [1]))
        return (values[:, :, None],)
