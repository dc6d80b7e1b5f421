"""Maps of a layer at several image sizes, fused to one map."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["fused_map", "sharpened", "unit_range"]

# Largest side of a tile in pixels, and how many positions it reads along it at most.
_SIDE, _POSITIONS = 28, 8
# Number of floats in one step of the fusion.
_PIECE = 2**22


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

    With u(x) the weights of all positions of all maps in the interpolation at a pixel
    x, the map is the quadratic form :math:`u(x)^T G\, u(x) / T^2` of the positions'
    Gram matrix :math:`G = A^T W`. It is computed for tiles of pixels, which depend on
    few positions: interpolated maps of the channels are never stored.

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
    shapes = [each.shape[1:] for each in activations]
    sides = [
        max(1, min(_SIDE, _POSITIONS * to // max(of_maps)))
        for to, of_maps in zip(size, zip(*shapes))
    ]
    A, W = map(_joined, (activations, gradients))
    axes = [
        [_tiles(*axis, mode, A) for axis in zip(shape, size, sides)] for shape in shapes
    ]
    n_rows, n_columns = (len(each.positions) for each in axes[0])
    n_read = sum(y.positions.shape[1] * x.positions.shape[1] for y, x in axes)
    step = max(1, _PIECE // (n_read * max(A.shape[1], sides[0] * sides[1])))
    values = []
    for tiles in torch.arange(n_rows * n_columns, device=A.device).split(step):
        row, column = tiles // n_columns, tiles % n_columns
        start, at, weights = 0, [], []
        for (y, x), (height, width) in zip(axes, shapes):
            rows, columns = y.positions[row, :, None], x.positions[column, None]
            at.append((start + rows * width + columns).flatten(1))
            products = (
                y.weights[row, :, None, :, None] * x.weights[column, None, :, None]
            )
            weights.append(products.flatten(3))
            start += height * width
        read, u = torch.cat(at, 1), torch.cat(weights, 3).flatten(1, 2)
        gram = A[read] @ W[read].mT
        values.append((u @ gram).mul_(u).sum(-1))
    tiled = torch.cat(values).view(n_rows, n_columns, *sides) / len(shapes) ** 2
    fused = tiled.transpose(1, 2).reshape(n_rows * sides[0], -1)
    return fused[: size[0], : size[1]].contiguous()


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Positions of all maps, (sum of h_t w_t, C), in at least float32."""
    dtype = torch.promote_types(maps[0].dtype, torch.float32)
    return torch.cat([each.movedim(0, -1).flatten(0, 1).to(dtype) for each in maps])


class _Tiles(NamedTuple):
    """Interpolation of a map along one axis, by tiles of pixels.

    Args:
        positions (Tensor): Positions of the map that each tile reads, (n_tiles, k).
        weights (Tensor): Their weights at each pixel, (n_tiles, side, k).
    """

    positions: Tensor
    weights: Tensor


def _tiles(n: int, to: int, side: int, mode: str, like: Tensor) -> _Tiles:
    """Interpolation of n positions to a number of pixels, by tiles of a side."""
    one_each = torch.eye(n, dtype=like.dtype)
    matrix = F.interpolate(one_each[None, None], (to, n), mode=mode)[0, 0]
    n_tiles = -(-to // side)
    # Pixels beyond the end of the last tile have no weights.
    weights = F.pad(matrix, (0, 0, 0, n_tiles * side - to)).view(n_tiles, side, n)
    used = weights.any(1).byte()
    first, end = used.argmax(1), n - used.flip(1).argmax(1)
    k = int((end - first).max())
    positions = first.clamp(max=n - k)[:, None] + torch.arange(k)
    weights = weights.gather(2, positions[:, None].expand(-1, side, -1))
    return _Tiles(positions.to(like.device), weights.to(like.device))


def sharpened(coarse: Tensor, fine: Sequence[Tensor], window: Sequence[int]) -> Tensor:
    r"""Map of the coarsest layer, multiplied by smoothed maps of finer layers.

    .. math::
        \Psi \prod_l \frac{B_l}{\max B_l}, \quad
        B_l = \mathrm{mean}_{\mathrm{window}}(\mathrm{ReLU}(\Psi_l)).

    Maps of finer layers say where within a position of the coarsest one. Without the
    mean, single positions would outweigh the rest of an object.

    Args:
        coarse (Tensor): Maps of the coarsest layer, Psi, (B, H, W).
        fine (sequence of Tensor): Maps of finer layers, Psi_l, (B, H, W) each.
        window (sequence of int): Height and width of the mean in pixels; an even number
            is raised by one.

    Returns:
        *Tensor*: (B, H, W), with the sign and the unit of ``coarse``.

    Examples::

        >>> fine = [torch.tensor([[[4.0, 2.0], [0, 0]]])]
        >>> sharpened(torch.ones(1, 2, 2), fine, (1, 1))
        tensor([[[1.0000, 0.5000],
                 [0.0000, 0.0000]]])
    """
    for each in fine:
        weights = F.relu(each)
        # Rows, then columns: the mean over a rectangle is separable.
        for n in window:
            weights = F.avg_pool1d(
                weights.mT, n // 2 * 2 + 1, 1, n // 2, count_include_pad=False
            )
        most = weights.amax((1, 2), keepdim=True)
        coarse = coarse * torch.where(most > 0, weights / most, 0)
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
