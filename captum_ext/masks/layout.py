"""How a few random cells become masks of the inputs, and back.

A mask is drawn as one *category* per cell: 0 keeps the cell, k = 1..K replaces it by
the k-th fill. A layout knows how cells spread over the pixels. Everything it does is
linear in the cells, so a sum over thousands of masks is taken over their cells and
expanded once.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["MaskCodes", "MaskLayout", "ProductLayout", "draw_masks"]

# Uniform numbers are drawn for so many masks at a time: enough to be fast, few
# enough that a video's masks need no memory to speak of.
_DRAWN_AT_ONCE = 512


@dataclass(frozen=True)
class MaskCodes:
    """M random masks in a few bytes each.

    Args:
        cells (Tensor): Category of each cell, 0 for kept and k for hidden by the k-th
            fill, (M, n_cells) uint8.
        shifts (Tensor): Random offset of the grid in pixels along each axis that has
            one, (M, n_axes) int32.
    """

    cells: Tensor
    shifts: Tensor

    def __getitem__(self, rows: slice) -> "MaskCodes":
        return MaskCodes(self.cells[rows], self.shifts[rows])

    def __len__(self) -> int:
        return self.cells.shape[0]

    def indicators(self, n_fills: int) -> Tensor:
        """One-hot cells (M, K, n_cells) float32 of the K hidden categories."""
        fills = torch.arange(1, n_fills + 1, dtype=torch.uint8)
        return (self.cells[:, None] == fills[:, None]).float()


class MaskLayout(ABC):
    """How cells spread over one or several input tensors.

    Attributes:
        n_cells (int): Number of cells that are drawn independently.
        n_shifts (tuple[int, ...]): Number of equally likely shifts along each axis.
        n_features (int): Number of features that summarize one category of a mask.
        norm (float): Sum over features of the variance that they have when each
            cell's has variance 1.
    """

    n_cells: int
    n_shifts: tuple[int, ...]
    n_features: int
    norm: float

    @abstractmethod
    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        """Spread values of the cells over the inputs.

        Args:
            values (Tensor): (M, K, n_cells).
            shifts (Tensor): (M, n_axes).

        Returns:
            *tuple[Tensor, ...]*: One tensor (M, K, 1, ...) an input, which broadcasts
            against (M, K, \\*inputs.shape).
        """

    @abstractmethod
    def accumulate(
        self, weights: Tensor, values: Tensor, shifts: Tensor
    ) -> tuple[Tensor, ...]:
        """Weighted sum over masks, sum_n weights[n] expand(values, shifts)[n].

        Args:
            weights (Tensor): (M, B).
            values (Tensor): (M, K, n_cells).
            shifts (Tensor): (M, n_axes).

        Returns:
            *tuple[Tensor, ...]*: One tensor (K, B, ...) an input.
        """

    @abstractmethod
    def features(self, values: Tensor, shifts: Tensor) -> Tensor:
        """Summary of each mask that a linear model is fitted to.

        Args:
            values (Tensor): (M, K, n_cells).
            shifts (Tensor): (M, n_axes).

        Returns:
            *Tensor*: (M, K, n_features).
        """

    @abstractmethod
    def correlate(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        """Covariance of each pixel with a linear function of the features.

        Where cells are independent with variance 1, Cov(m(lambda), phi . beta).

        Args:
            coefficients (Tensor): beta (K, n_features, B).

        Returns:
            *tuple[Tensor, ...]*: One tensor (K, B, ...) an input.
        """


class ProductLayout(MaskLayout):
    """Layouts of several inputs whose cells are drawn independently.

    Args:
        layouts (sequence of MaskLayout): One for each input.
    """

    def __init__(self, layouts: Sequence[MaskLayout]) -> None:
        self.layouts = tuple(layouts)
        self._cells = [layout.n_cells for layout in layouts]
        self._axes = [len(layout.n_shifts) for layout in layouts]
        self._features = [layout.n_features for layout in layouts]
        self.n_cells = sum(self._cells)
        self.n_shifts = sum((layout.n_shifts for layout in layouts), ())
        self.n_features = sum(self._features)
        self.norm = sum(layout.norm for layout in layouts)

    def _parts(
        self, values: Tensor, shifts: Tensor
    ) -> Iterator[tuple[MaskLayout, Tensor, Tensor]]:
        cells = values.split(self._cells, dim=2)
        return zip(self.layouts, cells, shifts.split(self._axes, dim=1))

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        parts = self._parts(values, shifts)
        return sum((layout.expand(v, o) for layout, v, o in parts), ())

    def accumulate(
        self, weights: Tensor, values: Tensor, shifts: Tensor
    ) -> tuple[Tensor, ...]:
        parts = self._parts(values, shifts)
        return sum((layout.accumulate(weights, v, o) for layout, v, o in parts), ())

    def features(self, values: Tensor, shifts: Tensor) -> Tensor:
        parts = self._parts(values, shifts)
        return torch.cat([layout.features(v, o) for layout, v, o in parts], dim=2)

    def correlate(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        split = coefficients.split(self._features, dim=1)
        parts = (lay.correlate(beta) for lay, beta in zip(self.layouts, split))
        return sum(parts, ())


def draw_masks(
    layout: MaskLayout,
    probabilities: Sequence[float],
    n_masks: int,
    generator: torch.Generator,
    paired: bool = False,
) -> MaskCodes:
    """Draw random masks.

    Args:
        layout (MaskLayout): How many cells and shifts there are.
        probabilities (sequence of float): Probability of each of the K + 1 categories,
            the kept one first.
        n_masks (int): Number of masks M.
        generator (torch.Generator): Source of randomness, on the CPU.
        paired (bool, optional): Whether masks 2i and 2i + 1 share their shift and use
            the uniform numbers u and 1 - u: for two equally likely categories they
            are each other's complement. Default: False

    Returns:
        *MaskCodes* of M masks, each one distributed as without pairs.

    Examples::

        >>> from captum_ext.masks import GridLayout, draw_masks
        >>> layout = GridLayout((224, 224), (7, 7))
        >>> codes = draw_masks(layout, (0.5, 0.5), 8, torch.Generator().manual_seed(0))
        >>> codes.cells.shape
        torch.Size([8, 49])
    """
    upper = torch.tensor(probabilities, dtype=torch.float64).cumsum(0)[:-1].float()
    n_drawn = n_masks // 2 if paired else n_masks
    cells, shifts = [], []
    for start in range(0, n_drawn, _DRAWN_AT_ONCE):
        n = min(_DRAWN_AT_ONCE, n_drawn - start)
        u = torch.rand(n, layout.n_cells, generator=generator)
        shift = [torch.randint(s, (n,), generator=generator) for s in layout.n_shifts]
        stacked = torch.stack(shift, 1) if shift else torch.empty(n, 0)
        if paired:
            u = torch.stack([u, 1 - u], dim=1).flatten(0, 1)
            stacked = stacked.repeat_interleave(2, dim=0)
        cells.append(torch.bucketize(u, upper, right=True).to(torch.uint8))
        shifts.append(stacked.to(torch.int32))
    return MaskCodes(torch.cat(cells), torch.cat(shifts))
