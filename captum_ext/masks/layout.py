"""Mask layouts: how a few random cells become masks of the inputs, and back.

A mask is drawn as one *category* per cell: 0 keeps the cell, k = 1..K replaces it by
the k-th fill. A layout spreads the cells over the pixels. Everything it does is linear
in the cells, so that a sum over thousands of masks can be taken over their cells and
expanded once.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ext._type_checks import (
    check_flags,
    check_instance,
    check_numbers,
    check_sequence,
    check_tensor,
)
from captum_ext._validation import check_integer, check_positive

__all__ = [
    "MaskCodes",
    "MaskLayout",
    "DeviceCopies",
    "ProductLayout",
    "check_generator",
    "check_layouts",
    "code_dtype",
    "draw_masks",
    "mask_shapes",
]

# Masks for which uniform numbers are drawn at a time: enough to be fast, few enough
# that the numbers of a video's masks take little memory.
_DRAWN_AT_ONCE = 512

# Masks that the default methods of a layout expand at a time.
_EXPANDED_AT_ONCE = 64
# The largest float32 below 1.
_BELOW_ONE = 1 - 2.0**-24


@dataclass(frozen=True)
class MaskCodes:
    """M random masks in a few bytes each.

    Args:
        cells (Tensor): Category of each cell, 0 for kept and k for hidden by the k-th
            fill, (M, n_cells) uint8; int32 for more than 255 fills.
        shifts (Tensor): Random shift along each axis that has one, (M, n_axes) int32.
    """

    cells: Tensor
    shifts: Tensor

    def __post_init__(self) -> None:
        cells = check_tensor("cells", self.cells)
        shifts = check_tensor("shifts", self.shifts)
        if cells.dim() != 2 or cells.is_floating_point():
            raise ValueError(
                f"cells must be integers (M, n_cells), got {cells.dtype} of shape "
                f"{tuple(cells.shape)}."
            )
        if shifts.dim() != 2 or len(shifts) != len(cells):
            raise ValueError(
                f"shifts must have shape ({len(cells)}, n_axes), got "
                f"{tuple(shifts.shape)}."
            )

    def __getitem__(self, rows: slice) -> "MaskCodes":
        return MaskCodes(self.cells[rows], self.shifts[rows])

    def __len__(self) -> int:
        return self.cells.shape[0]

    def to(self, device: torch.device) -> "MaskCodes":
        """The same masks on a device."""
        return MaskCodes(self.cells.to(device), self.shifts.to(device))

    def indicators(self, n_fills: int) -> Tensor:
        """One-hot cells (M, K, n_cells) float32 of the K hidden categories."""
        n_fills = check_integer("n_fills", n_fills, 1)
        fills = torch.arange(
            1, n_fills + 1, dtype=code_dtype(n_fills), device=self.cells.device
        )
        return (self.cells[:, None] == fills[:, None]).float()


class DeviceCopies:
    """A tensor and its copies on other devices, each made once.

    The CPU waits for a GPU at every copy.

    Args:
        tensor (Tensor): Tensor that does not change.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._copies = {tensor.device: tensor}

    def on(self, device: torch.device) -> Tensor:
        """The tensor on a device."""
        if device not in self._copies:
            self._copies[device] = next(iter(self._copies.values())).to(device)
        return self._copies[device]


def code_dtype(n_fills: int) -> torch.dtype:
    """The type of the category of a cell: one byte if that holds all of them."""
    return torch.uint8 if n_fills <= 255 else torch.int32


class MaskLayout(ABC):
    r"""How cells spread over one or several input tensors.

    A layout of your own calls ``__init__`` with the number of its cells and shifts and
    implements :meth:`expand`, whose weights of the cells sum to 1 in each pixel; pass
    an instance as ``layout`` to :class:`~captum_ext.attr.RISE`,
    :class:`~captum_ext.attr.PNRISE` or :class:`~captum_ext.attr.MCRISE`. The other
    methods follow from :meth:`expand`, by loops over masks and shifts. Override
    :meth:`accumulate`, :meth:`features` and :meth:`correlate` where that is too slow;
    the last two belong together with ``n_features`` and ``norm``.

    Args:
        n_cells (int): Number of cells that are drawn independently.
        n_shifts (tuple[int, ...], optional): Number of equally likely shifts along
            each axis; a shift is an integer from 0. Default: no axis has shifts
        n_features (int, optional): Number of features that summarize one category of
            a mask. Default: None (``n_cells``)
        norm (float, optional): Sum of the features' variances if each cell has
            variance 1. Default: None (``n_cells``)

    Examples::

        >>> class Stripes(MaskLayout):
        ...     def __init__(self, height, n_stripes):
        ...         super().__init__(n_cells=n_stripes)
        ...         self.stripe_of_row = torch.arange(height) * n_stripes // height
        ...
        ...     def expand(self, values, shifts):
        ...         rows = values[:, :, self.stripe_of_row.to(values.device)]
        ...         return (rows[:, :, None, None, :, None],)
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> inputs = torch.rand(1, 3, 32, 32)
        >>> PNRISE(model).attribute(inputs, target=1, layout=Stripes(32, 8)).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(
        self,
        n_cells: int,
        n_shifts: tuple[int, ...] = (),
        n_features: int | None = None,
        norm: float | None = None,
    ) -> None:
        self.n_cells = check_integer("n_cells", n_cells, 1)
        check_instance("n_shifts", n_shifts, tuple)
        self.n_shifts = tuple(check_integer("n_shifts", n, 1) for n in n_shifts)
        self.n_features = self.n_cells
        if n_features is not None:
            self.n_features = check_integer("n_features", n_features, 1)
        self.norm = float(n_cells if norm is None else check_positive("norm", norm))

    @abstractmethod
    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        """Spread values of the cells over the inputs.

        Each value of a mask is a weighted mean of the mask's cells. The weights may
        depend on the shifts. For integer inputs each pixel takes the value of one cell.

        Args:
            values (Tensor): (M, K, n_cells), of any floating point type.
            shifts (Tensor): (M, n_axes).

        Returns:
            *tuple[Tensor, ...]*: One tensor (M, K, 1, ...) per input on the device of
            ``values``: masks, fills, then the axes of the input with 1 for the batch,
            (M, K, 1, 1, H, W) for images. It broadcasts against (M, K,
            \\*inputs.shape).
        """

    def accumulate(
        self, weights: Tensor, values: Tensor, shifts: Tensor
    ) -> tuple[Tensor, ...]:
        """Weighted sum over masks, sum_n weights[n] expand(values, shifts)[n].

        Args:
            weights (Tensor): (M, B).
            values (Tensor): (M, K, n_cells).
            shifts (Tensor): (M, n_axes).

        Returns:
            *tuple[Tensor, ...]*: One tensor (K, B, ...) per input, in the dtype of
            ``weights``.
        """
        sums: list[Tensor] = []
        for start in range(0, len(values), _EXPANDED_AT_ONCE):
            rows = slice(start, start + _EXPANDED_AT_ONCE)
            parts = [
                torch.einsum("mb,mk...->kb...", weights[rows], mask[:, :, 0])
                for mask in self.expand(values[rows].to(weights), shifts[rows])
            ]
            sums = [total + new for total, new in zip(sums, parts)] if sums else parts
        return tuple(sums)

    def features(self, values: Tensor, shifts: Tensor) -> Tensor:
        """Summary of each mask that a linear model is fitted to: by default its cells.

        Args:
            values (Tensor): (M, K, n_cells).
            shifts (Tensor): (M, n_axes).

        Returns:
            *Tensor*: (M, K, n_features), linear in ``values``.
        """
        return values

    def correlate(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        """Covariance of each pixel with a linear function of the features.

        Where cells are independent with variance 1, Cov(m(lambda), phi . beta).

        Args:
            coefficients (Tensor): beta (K, n_features, B).

        Returns:
            *tuple[Tensor, ...]*: One tensor (K, B, ...) per input.
        """
        # The covariance of a pixel and a cell is the cell's mean weight over shifts.
        shifts = torch.tensor(list(itertools.product(*map(range, self.n_shifts))))
        n_shifts, (n_fills, _, n_examples) = len(shifts), coefficients.shape
        shares = torch.full((n_shifts, 1), 1 / n_shifts).to(coefficients)
        values = coefficients.transpose(1, 2).reshape(1, -1, self.n_cells)
        sums = self.accumulate(shares, values.expand(n_shifts, -1, -1), shifts)
        return tuple(total[:, 0].unflatten(0, (n_fills, n_examples)) for total in sums)


class ProductLayout(MaskLayout):
    """Layouts of several inputs whose cells are drawn independently.

    Args:
        layouts (sequence of MaskLayout): One for each input.
    """

    def __init__(self, layouts: Sequence[MaskLayout]) -> None:
        self.layouts = check_layouts(layouts)
        self._cells = [layout.n_cells for layout in layouts]
        self._axes = [len(layout.n_shifts) for layout in layouts]
        self._features = [layout.n_features for layout in layouts]
        super().__init__(
            n_cells=sum(self._cells),
            n_shifts=sum((layout.n_shifts for layout in layouts), ()),
            n_features=sum(self._features),
            norm=sum(layout.norm for layout in layouts),
        )

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


def mask_shapes(layout: MaskLayout) -> tuple[tuple[int, ...], ...]:
    """Shape (1, ...) of a mask of each input.

    Args:
        layout (MaskLayout): How cells spread over the inputs.

    Examples::

        >>> mask_shapes(GridLayout((8, 6), (2, 2)))
        ((1, 1, 8, 6),)
    """
    shifts = torch.zeros(1, len(layout.n_shifts), dtype=torch.int32)
    masks = layout.expand(torch.ones(1, 1, layout.n_cells), shifts)
    return tuple(tuple(mask.shape[2:]) for mask in masks)


def check_layouts(layouts: Sequence[MaskLayout]) -> tuple[MaskLayout, ...]:
    """The layouts as a tuple, checked to hold at least one."""
    given = check_sequence("layouts", layouts, "instances of MaskLayout")
    others = [type(each).__name__ for each in given if not isinstance(each, MaskLayout)]
    if others or not given:
        raise TypeError(
            f"layouts must hold one or several instances of MaskLayout, got "
            f"{', '.join(others) or 'none'}."
        )
    return tuple(given)


def check_generator(generator: torch.Generator) -> None:
    """Check that an argument is a generator on the CPU."""
    check_instance("generator", generator, torch.Generator)
    if generator.device.type != "cpu":
        raise ValueError(
            f"generator must be on the CPU, so that a seed draws the same masks "
            f"everywhere, got {generator.device}."
        )


def draw_masks(
    layout: MaskLayout,
    probabilities: Sequence[float],
    n_masks: int,
    generator: torch.Generator,
    paired: bool = False,
) -> MaskCodes:
    """Draw random masks.

    Args:
        layout (MaskLayout): Layout that gives the numbers of cells and shifts.
        probabilities (sequence of float): Probability of each of the K + 1 categories,
            the kept one first.
        n_masks (int): Number of masks M.
        generator (torch.Generator): Source of randomness, on the CPU.
        paired (bool, optional): Whether masks 2i and 2i + 1 share their shift and use
            the uniform numbers u and 1 - u: for two equally likely categories they
            are each other's complement. Default: False

    Returns:
        *MaskCodes* of M masks, each distributed as without pairs; M - 1 masks if M is
        odd and ``paired``.

    Raises:
        ValueError: If probabilities are negative or do not sum to 1, or ``n_masks`` is
            smaller than 1, or 2 for pairs.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> from captum_ext.masks import GridLayout, draw_masks
        >>> layout = GridLayout((224, 224), (7, 7))
        >>> codes = draw_masks(layout, (0.5, 0.5), 8, torch.Generator().manual_seed(0))
        >>> codes.cells.shape
        torch.Size([8, 49])
    """
    check_instance("layout", layout, MaskLayout)
    check_generator(generator)
    check_flags(paired=paired)
    n_masks = check_integer("n_masks", n_masks, 2 if paired else 1)
    shares = check_numbers("probabilities", probabilities)
    # Written so that an empty sequence fails.
    if not (shares >= 0).all() or abs(float(shares.sum()) - 1) > 1e-6:
        raise ValueError(
            f"probabilities must be at least 0 and sum to 1, got {shares.tolist()}."
        )
    upper = shares.cumsum(0)[:-1].float()
    dtype = code_dtype(len(upper))
    n_drawn = n_masks // 2 if paired else n_masks
    cells, shifts = [], []
    for start in range(0, n_drawn, _DRAWN_AT_ONCE):
        n = min(_DRAWN_AT_ONCE, n_drawn - start)
        u = torch.rand(n, layout.n_cells, generator=generator)
        shift = [torch.randint(s, (n,), generator=generator) for s in layout.n_shifts]
        stacked = torch.stack(shift, 1) if shift else torch.empty(n, 0)
        if paired:
            # 1 - u may be 1, which is above all categories, probability 0 or not.
            u = torch.stack([u, (1 - u).clamp_max(_BELOW_ONE)], dim=1).flatten(0, 1)
            stacked = stacked.repeat_interleave(2, dim=0)
        cells.append(torch.bucketize(u, upper, right=True).to(dtype))
        shifts.append(stacked.to(torch.int32))
    return MaskCodes(torch.cat(cells), torch.cat(shifts))
