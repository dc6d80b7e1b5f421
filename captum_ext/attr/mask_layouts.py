"""Mask layouts of a batch from arguments: grid, superpixels, regions, or your own."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from captum_ext._type_checks import check_sequence, check_tensor
from captum_ext._validation import (
    broadcasts,
    check_choice,
    check_integer,
    one_per_input,
)
from captum_ext._warnings import warn_caller
from captum_ext.masks import (
    GridLayout,
    MaskLayout,
    MixedLayout,
    ProductLayout,
    RegionLayout,
    superpixels,
)

__all__ = [
    "GridSize",
    "Layout",
    "cell_layouts",
    "check_shared_by_channels",
    "mask_layouts",
    "warn_of_sequences",
]

GridSize = int | Sequence[int] | None
Layout = MaskLayout | Literal["grid", "superpixels", "mixed"] | None

# Cells along the axes of a grid, and of all axes together for a field.
_DEFAULT_GRID = 7
_N_BLOCKS = 784
# Superpixels of an image in the layout "mixed".
_MIXED = (25, 50, 100)


def mask_layouts(
    inputs: tuple[Tensor, ...],
    feature_mask: Tensor | tuple[Tensor, ...] | None,
    grid_size: GridSize,
    layout: Layout,
) -> list[MaskLayout]:
    """Mask layouts that arguments of ``attribute`` describe.

    Args:
        inputs (tuple[Tensor, ...]): Inputs (B, ...).
        feature_mask (Tensor or tuple[Tensor, ...], optional): Regions.
        grid_size (int or sequence of int, optional): Cells of a grid.
        layout (MaskLayout or str, optional): Layout that is used as it is, or "grid",
            "superpixels" or "mixed".

    Returns:
        *list[MaskLayout]*: One layout for the whole batch, or one for each example if
        examples have different regions. Without arguments, and for "grid", columns of
        tables and a grid for other inputs.

    Raises:
        ValueError: If several are given other than a grid and its size, or one does not
            fit the inputs.
        TypeError: If one is of the wrong type.
    """
    if feature_mask is None and grid_size is None and layout is None:
        warn_of_sequences(inputs)
    if isinstance(layout, str) and layout == "grid" and feature_mask is None:
        layout = None
    given = {"feature_mask": feature_mask, "grid_size": grid_size, "layout": layout}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(
            f"feature_mask, grid_size and layout must not be combined, got "
            f"{' and '.join(names)}."
        )
    if isinstance(layout, str):
        check_choice("layout", layout, ("grid", "superpixels", "mixed"))
        return _superpixel_layouts(inputs, mixed=layout == "mixed")
    if layout is not None:
        return [_check_layout(layout, inputs)]
    regions = _check_feature_mask(feature_mask, inputs)
    if regions is None:
        return [ProductLayout(_default_layouts(inputs, grid_size))]
    if all(len(region) == 1 for region in regions):
        return [RegionLayout(regions)]
    # Masks of regions that belong to one example cannot be shared by the batch.
    return [
        RegionLayout(
            [region[i : i + 1] if len(region) > 1 else region for region in regions]
        )
        for i in range(len(inputs[0]))
    ]


def cell_layouts(
    inputs: tuple[Tensor, ...],
    feature_mask: Tensor | tuple[Tensor, ...] | None,
    grid_size: GridSize,
    layout: Layout,
) -> list[RegionLayout]:
    """Cells of the field that arguments of ``attribute`` describe.

    Args:
        inputs (tuple[Tensor, ...]): Inputs (B, ...).
        feature_mask (Tensor or tuple[Tensor, ...], optional): Regions.
        grid_size (int or sequence of int, optional): Blocks along each axis.
        layout (MaskLayout or str, optional): Layout of regions that is used as it is,
            "grid" or "superpixels".

    Returns:
        *list[RegionLayout]*: One layout for the whole batch, or one for each example.
        Without arguments, and for "grid", columns of tables and equal blocks of other
        inputs.

    Raises:
        ValueError: If several are given, or one does not fit the inputs.
        TypeError: If one is of the wrong type, or a layout is not one of regions.
    """
    if isinstance(layout, str):
        check_choice("layout", layout, ("grid", "superpixels"))
    if feature_mask is None and grid_size is None and layout is None:
        warn_of_sequences(inputs)
    is_grid = isinstance(layout, str) and layout == "grid"
    if feature_mask is None and (layout is None or is_grid):
        grids = _check_grid_size(grid_size, inputs, _N_BLOCKS)
        return [RegionLayout(_blocks(inputs, grids))]
    regions = _check_feature_mask(feature_mask, inputs)
    if regions is not None:
        # Distances between regions need every position.
        regions = tuple(
            index.expand(*index.shape[:2], *tensor.shape[2:])
            for index, tensor in zip(regions, inputs)
        )
    cells = []
    for each in mask_layouts(inputs, regions, grid_size, layout):
        if not isinstance(each, RegionLayout):
            raise TypeError(
                f"layout must be 'grid', 'superpixels' or a RegionLayout if estimator "
                f"is 'field', got {type(each).__name__}."
            )
        cells.append(each)
    return cells


def warn_of_sequences(
    inputs: tuple[Tensor, ...], as_series: str = "layout='grid'"
) -> None:
    """Warn how inputs of three axes are masked, since they may be sequences."""
    for tensor in inputs:
        if tensor.dim() == 3 and tensor.is_floating_point():
            warn_caller(
                f"inputs of shape {tuple(tensor.shape)} are masked along their last "
                f"axis, as series (B, C, L); pass {as_series} if they are, and "
                f"feature_mask=captum_ext.masks.sequence_mask(inputs) for sequences "
                f"(B, L, C), such as embedded tokens."
            )
            return


def _blocks(
    inputs: tuple[Tensor, ...], grids: Sequence[tuple[int, ...] | None]
) -> list[Tensor]:
    """Index of the block, or of the column, of each element of each input, (1, ...)."""
    regions = []
    for tensor, grid in zip(inputs, grids):
        index = torch.zeros((), dtype=torch.long)
        for n, cells in zip(tensor.shape[2:], grid or ()):
            index = index[..., None] * cells + torch.arange(n) * cells // n
        index = index.reshape(1, 1, *tensor.shape[2:])
        regions.append(_columns(tensor) if grid is None else index)
    return _disjoint(regions)


def _disjoint(regions: Sequence[Tensor]) -> list[Tensor]:
    """Regions of several inputs, numbered so that no two inputs share one."""
    numbered = []
    n_cells = 0
    for index in regions:
        numbered.append(n_cells + index)
        n_cells += int(index.max()) + 1
    return numbered


def _default_layouts(
    inputs: tuple[Tensor, ...], grid_size: GridSize
) -> list[MaskLayout]:
    layouts: list[MaskLayout] = []
    for tensor, grid in zip(inputs, _check_grid_size(grid_size, inputs, None)):
        if grid is None:
            layouts.append(RegionLayout([_columns(tensor)]))
        else:
            layouts.append(GridLayout(tensor.shape[2:], grid))
    return layouts


def _columns(table: Tensor) -> Tensor:
    """Index of each column, (1, ...)."""
    return torch.arange(table[0].numel()).view(1, *table.shape[1:])


def _superpixel_layouts(inputs: tuple[Tensor, ...], mixed: bool) -> list[MaskLayout]:
    """Superpixels of each image or video, and columns of the tables beside it."""
    n_axes = {tensor.dim() for tensor in inputs}
    if not n_axes & {4, 5} or not n_axes <= {2, 4, 5}:
        raise ValueError(
            f"layout must be None, 'grid' or a MaskLayout unless inputs are images "
            f"(B, C, H, W) or video (B, C, T, H, W), got inputs of shape "
            f"{', '.join(str(tuple(tensor.shape)) for tensor in inputs)}; give regions "
            f"of other inputs as feature_mask."
        )

    def regions_of(tensor: Tensor, n_segments: int | None = None) -> Tensor:
        is_table = tensor.dim() == 2
        return _columns(tensor) if is_table else superpixels(tensor, n_segments)

    def mixed_layout(tensor: Tensor) -> MaskLayout:
        if tensor.dim() == 2:
            return RegionLayout([_columns(tensor)])
        return MixedLayout([RegionLayout([regions_of(tensor, n)]) for n in _MIXED])

    examples = [[tensor[i : i + 1] for tensor in inputs] for i in range(len(inputs[0]))]
    if mixed:
        return [ProductLayout(list(map(mixed_layout, example))) for example in examples]
    return [
        RegionLayout(_disjoint(list(map(regions_of, example)))) for example in examples
    ]


def _check_layout(layout: MaskLayout, inputs: tuple[Tensor, ...]) -> MaskLayout:
    """The layout, checked to give masks that fit the inputs."""
    if not isinstance(layout, MaskLayout):
        raise TypeError(
            f"layout must be a name or an instance of MaskLayout, got "
            f"{type(layout).__name__}."
        )
    # Two of each, so that a layout that ignores an axis is noticed.
    cells, shifts = torch.ones(2, 2, layout.n_cells), (2, len(layout.n_shifts))
    masks = layout.expand(cells, torch.zeros(shifts, dtype=torch.int32))
    if not isinstance(masks, tuple):
        raise TypeError(
            f"layout.expand must return a tuple with one tensor per input, got "
            f"{type(masks).__name__}."
        )
    fits = len(masks) == len(inputs) and all(
        mask.shape[:3] == (2, 2, 1)
        and mask.dim() == x.dim() + 2
        and broadcasts(mask.shape[2:], x.shape)
        for mask, x in zip(masks, inputs)
    )
    if not fits:
        raise ValueError(
            f"layout.expand must return one tensor (M, K, 1, ...) per input, whose "
            f"last axes broadcast to inputs of shape "
            f"{', '.join(str(tuple(x.shape)) for x in inputs)}, got "
            f"{', '.join(str(tuple(mask.shape)) for mask in masks)} for 2 masks of 2 "
            f"fills."
        )
    low, high = torch.stack([m for mask in masks for m in mask.aminmax()]).aminmax()
    if low < 1 - 1e-4 or high > 1 + 1e-4:
        raise ValueError(
            f"layout must give cells weights that sum to 1 in each pixel, got sums "
            f"from {float(low):.3g} to {float(high):.3g}."
        )
    return layout


def _check_feature_mask(
    feature_mask: Tensor | tuple[Tensor, ...] | None, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...] | None:
    """Integer regions (1 or B, ...) with as many axes as their input, if any."""
    if feature_mask is None:
        return None
    formatted = []
    masks = one_per_input("feature_mask", feature_mask, inputs)
    if all(mask is None for mask in masks):
        return None
    for mask in masks:
        if mask is not None:
            _check_integers(mask)
    for mask, tensor in zip(_without_gaps(masks, inputs), inputs):
        if not broadcasts(mask.shape, tensor.shape):
            raise ValueError(
                f"feature_mask must broadcast to inputs of shape "
                f"{tuple(tensor.shape)}, got shape {tuple(mask.shape)}."
            )
        if mask.dtype == torch.bool:
            # Two regions: what a segmentation covers, and the rest.
            mask = mask.long()
        missing = tensor.dim() - mask.dim()
        formatted.append(mask.reshape(*(1,) * missing, *mask.shape))
    return tuple(formatted)


def _without_gaps(
    masks: Sequence[Tensor | None], inputs: tuple[Tensor, ...]
) -> list[Tensor]:
    """Regions of all inputs, blocks or columns of their own for None."""
    given = [int(m.max()) for m in masks if isinstance(m, Tensor) and m.numel()]
    n_cells = 1 + max(given, default=-1)
    filled = []
    for mask, tensor in zip(masks, inputs):
        if mask is None:
            grid = tuple(min(_DEFAULT_GRID, n) for n in tensor.shape[2:]) or None
            (mask,) = _blocks((tensor,), [grid])
            mask = n_cells + mask.to(tensor.device)
            n_cells = int(mask.max()) + 1
        filled.append(mask)
    return filled


def _check_integers(mask: object) -> None:
    tensor = check_tensor("feature_mask", mask, "integer tensors")
    if tensor.is_floating_point():
        raise TypeError(f"feature_mask must hold integer tensors, got {tensor.dtype}.")


def check_shared_by_channels(
    feature_mask: Tensor | tuple[Tensor, ...] | None, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...] | None:
    """Regions (1 or B, 1, ...), checked to be the same for all channels."""
    masks = _check_feature_mask(feature_mask, inputs)
    if masks is None:
        return None
    shared = []
    for regions, tensor in zip(masks, inputs):
        if tensor.dim() > 2:
            if not torch.equal(regions, regions[:, :1].expand_as(regions)):
                raise ValueError(
                    "feature_mask must be the same for all channels of a pixel, got "
                    "channels that differ."
                )
            regions = regions[:, :1]
        shared.append(regions)
    return tuple(shared)


def _check_grid_size(
    grid_size: GridSize, inputs: tuple[Tensor, ...], n_cells: int | None
) -> list[tuple[int, ...] | None]:
    """Cells along each axis after the channel axis of each input, None for tables.

    By default about ``n_cells`` in all, or 7 along each axis if that is None.
    """
    sizes = [tuple(tensor.shape[2:]) for tensor in inputs]
    if grid_size is not None and not any(sizes):
        raise ValueError(
            f"grid_size must be None unless inputs have an axis after the channel "
            f"axis, got inputs of shape {tuple(inputs[0].shape)}."
        )
    grids: list[tuple[int, ...] | None] = []
    for tensor, size in zip(inputs, sizes):
        if size and not tensor.is_floating_point():
            raise TypeError(
                f"inputs must be floating point to be blended by a grid, got "
                f"{tensor.dtype}; give feature_mask to replace whole regions."
            )
        if grid_size is None:
            along = (
                round(n_cells ** (1 / max(1, len(size)))) if n_cells else _DEFAULT_GRID
            )
            grids.append(tuple(min(along, n) for n in size) or None)
        else:
            grids.append(_grid_of(grid_size, size) if size else None)
    return grids


def _grid_of(grid_size: int | Sequence[int], size: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(grid_size, Sequence):
        entries = list(check_sequence("grid_size", grid_size, "integers"))
    else:
        entries = [check_integer("grid_size", grid_size, 1)] * len(size)
    if len(entries) != len(size):
        raise ValueError(
            f"grid_size must be an int or {len(size)} ints for {size} pixels, got "
            f"{grid_size}."
        )
    grid = tuple(check_integer("grid_size", cells, 1) for cells in entries)
    if any(cells > pixels for cells, pixels in zip(grid, size)):
        raise ValueError(
            f"grid_size must not exceed the input's {size} pixels, got {grid_size}."
        )
    return grid
