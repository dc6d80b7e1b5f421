"""Masks from a coarse random grid, enlarged and shifted, as RISE draws them."""

import math
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.masks.layout import MaskLayout

__all__ = ["GridLayout", "interpolation_rows"]


def interpolation_rows(size: int, n_cells: int) -> Tensor:
    """Weights of the cells in each pixel of an axis, for every shift.

    An axis of n_cells cells is enlarged linearly to (n_cells + 1) * ceil(size /
    n_cells) pixels, of which ``size`` are cut out at a random offset shorter than one
    cell (RISE, section 3.2; line 9 and 10 of Algorithm 1 in the supplement of
    MC-RISE).

    Args:
        size (int): Length of the axis in pixels.
        n_cells (int): Number of cells along it.

    Returns:
        *Tensor* (n_shifts, size, n_cells) float32; every row sums to 1.

    Examples::

        >>> interpolation_rows(4, 2).shape
        torch.Size([2, 4, 2])
    """
    n_shifts = math.ceil(size / n_cells)
    enlarged = (n_cells + 1) * n_shifts
    cells = torch.eye(n_cells)[None]
    rows = F.interpolate(cells, enlarged, mode="linear", align_corners=False)[0].T
    return torch.stack([rows[shift : shift + size] for shift in range(n_shifts)])


class GridLayout(MaskLayout):
    """A random grid over the pixels of one input: 1-D, pictures or video.

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
        self._grid = tuple(grid)
        self._rows = [interpolation_rows(n, s) for n, s in zip(size, grid)]
        # As many windows as an enlarged grid shows cells; finer ones gain nothing.
        windows = [min(s + 1, n) for n, s in zip(size, grid)]
        self._pooled = [
            F.adaptive_avg_pool1d(rows.transpose(1, 2), n).transpose(1, 2)
            for rows, n in zip(self._rows, windows)
        ]
        pairs = list(zip(self._rows, self._pooled))
        self._covariance = [
            torch.einsum("ohc,opc->hp", rows.double(), pooled.double()) / len(rows)
            for rows, pooled in pairs
        ]
        self.n_cells = math.prod(grid)
        self.n_shifts = tuple(len(rows) for rows in self._rows)
        self.n_features = math.prod(windows)
        self.norm = math.prod(
            float(pooled.double().square().sum()) / len(pooled)
            for pooled in self._pooled
        )

    def _spread(self, values: Tensor, shifts: Tensor, rows: list[Tensor]) -> Tensor:
        values = values.unflatten(2, self._grid)
        for axis, weights in enumerate(rows):
            # Contracts the first cell axis that is left, appends its pixel axis.
            weights = weights.to(values)[shifts[:, axis].long()]
            values = torch.einsum("mkc...,mhc->mk...h", values, weights)
        return values

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        return (self._spread(values, shifts, self._rows)[:, :, None, None],)

    def features(self, values: Tensor, shifts: Tensor) -> Tensor:
        return self._spread(values, shifts, self._pooled).flatten(2)

    def accumulate(
        self, weights: Tensor, values: Tensor, shifts: Tensor
    ) -> tuple[Tensor, ...]:
        n_masks, n_fills = values.shape[:2]
        shift = torch.zeros(n_masks, dtype=torch.long)
        for axis, n in enumerate(self.n_shifts):
            shift = shift * n + shifts[:, axis].long()
        weighted = torch.einsum("mkc,mb->mkbc", values.to(weights), weights)
        total = weights.new_zeros(math.prod(self.n_shifts), *weighted.shape[1:])
        total.index_add_(0, shift, weighted)
        total = total.unflatten(3, self._grid).unflatten(0, self.n_shifts)
        for axes_left, rows in zip(range(len(self._rows), 0, -1), self._rows):
            # The axes are shifts left, K, B, cells left, pixels done.
            total = torch.tensordot(
                total, rows.to(weights), dims=([0, axes_left + 2], [0, 2])
            )
        return (total[:, :, None],)

    def correlate(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        n_windows = [pooled.shape[1] for pooled in self._pooled]
        values = coefficients.transpose(1, 2).unflatten(2, n_windows)
        for covariance in self._covariance:
            values = torch.tensordot(values, covariance.to(values), dims=([2], [1]))
        return (values[:, :, None],)
