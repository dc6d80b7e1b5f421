"""Maps of a layer at several image sizes, fused to one map."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["fused_map", "sharpened", "unit_range"]

# Number of floats in one step of the fusion: few enough for a processor's cache.
_PIECE = 2**20


def fused_map(
    activations: Sequence[Tensor],
    gradients: Sequence[Tensor],
    size: Sequence[int],
    mode: str = "bilinear",
) -> Tensor:
    r"""Product of mean activations and mean gradients, summed over channels.

    .. math::
        \sum_k \bar W_k \odot \bar A_k, \quad
        \bar A_k = \frac{1}{T} \sum_t \mathrm{up}(A_{t,k}), \quad
        \bar W_k = \frac{1}{T} \sum_t \mathrm{up}(W_{t,k}).

    Interpolation is linear in the maps and separable. Rows are interpolated first, a
    few at a time, and channels are summed before the columns are interpolated if that
    is less work: the full-size product of all channels is never stored.

    Args:
        activations (sequence of Tensor): Activations A_t of one example,
            (C, h_t, w_t) each.
        gradients (sequence of Tensor): Gradients W_t, in the same shapes.
        size (sequence of int): Height H and width W of the map.
        mode (str, optional): Interpolation mode of ``torch.nn.functional.interpolate``.
            Default: "bilinear"

    Returns:
        *Tensor*: (H, W), float32, or float64 for float64 maps.

    Examples::

        >>> fused_map([torch.ones(8, 2, 2)], [torch.ones(8, 2, 2)], (4, 4)).mean()
        tensor(8.)
    """
    (height, width), n_channels = size, len(activations[0])
    to_height = [_interpolation(a.shape[1], height, mode, a) for a in activations]
    to_width = [_interpolation(a.shape[2], width, mode, a) for a in activations]
    columns = torch.cat(to_width, 1)
    n_columns = columns.shape[1]
    sum_first = n_columns * (n_channels + width) < 2 * width * n_channels
    step = max(1, _PIECE // (n_columns * max(n_channels, width)))
    row_weights = [each / len(to_height) for each in to_height]
    flat = [
        [each.movedim(0, -1).to(columns.dtype).flatten(1) for each in maps]
        for maps in (activations, gradients)
    ]

    def rows_of(maps: Sequence[Tensor], rows: slice) -> Tensor:
        """Mean with rows interpolated, (rows, columns of all sizes, C)."""
        n_rows = len(row_weights[0][rows])
        found = columns.new_empty(n_rows, n_columns * n_channels)
        parts = found.split([each.shape[1] for each in maps], 1)
        for to_row, each, part in zip(row_weights, maps, parts):
            torch.mm(to_row[rows], each, out=part)
        return found.view(n_rows, n_columns, n_channels)

    fused = columns.new_empty(height, width)
    for start in range(0, height, step):
        rows = slice(start, start + step)
        A, W = rows_of(flat[0], rows), rows_of(flat[1], rows)
        if sum_first:
            fused[rows] = (columns @ (A @ W.mT) * columns).sum(-1)
        else:
            fused[rows] = ((columns @ A) * (columns @ W)).sum(-1)
    return fused


def _interpolation(n: int, to: int, mode: str, like: Tensor) -> Tensor:
    """Matrix (to, n) that interpolates n values."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    one_each = torch.eye(n, dtype=dtype, device=like.device)
    return F.interpolate(one_each[None, None], (to, n), mode=mode)[0, 0]


def sharpened(coarse: Tensor, fine: Sequence[Tensor], window: Sequence[int]) -> Tensor:
    r"""Map of the coarsest layer, multiplied by smoothed maps of finer layers.

    .. math::
        \Psi \prod_l \frac{B_l}{\max B_l}, \quad
        B_l = \mathrm{mean}_{\mathrm{window}}(\mathrm{ReLU}(\Psi_l)).

    Maps of finer layers say where within a position of the coarsest one. Without the
    mean, single positions would outweigh the rest of an object.

    Args:
        coarse (Tensor): Map of the coarsest layer, Psi, (H, W).
        fine (sequence of Tensor): Maps of finer layers, Psi_l, (H, W) each.
        window (sequence of int): Height and width of the mean in pixels; an even number
            is raised by one.

    Returns:
        *Tensor*: (H, W), with the sign and the unit of ``coarse``.

    Examples::

        >>> sharpened(torch.ones(2, 2), [torch.tensor([[4.0, 2.0], [0, 0]])], (1, 1))
        tensor([[1.0000, 0.5000],
                [0.0000, 0.0000]])
    """
    for each in fine:
        weights = F.relu(each)
        # Rows, then columns: the mean over a rectangle is separable.
        for n in window:
            weights = F.avg_pool1d(
                weights.mT[None], n // 2 * 2 + 1, 1, n // 2, count_include_pad=False
            )[0]
        most = weights.max()
        coarse = coarse * (weights / most if most > 0 else weights)
    return coarse


def unit_range(maps: Tensor) -> Tensor:
    """Stretch each map to the range [0, 1].

    Args:
        maps (Tensor): Maps (B, ...).

    Returns:
        *Tensor*: Maps in the same shape, zero for a constant map.

    Examples::

        >>> unit_range(torch.tensor([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]))
        tensor([[0.0000, 0.2500, 1.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    axes = tuple(range(1, maps.dim()))
    maps = maps - maps.amin(axes, keepdim=True)
    most = maps.amax(axes, keepdim=True)
    return torch.where(most > 0, maps / most, 0)
