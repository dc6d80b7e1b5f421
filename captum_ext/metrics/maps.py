"""Any map as one number a pixel, as ranks, and as shares of its maximum.

The one place that knows what attributions may look like; every metric starts here.
"""

import torch
from torch import Tensor

from captum_ext._interpolation import resize
from captum_ext._validation import check_attributions

__all__ = ["rank_maps", "spatial_maps", "unit_maps"]


def spatial_maps(
    attributions: Tensor | tuple[Tensor, ...],
    inputs: Tensor,
    name: str = "attributions",
) -> Tensor:
    """One signed number for each pixel of the inputs.

    Channels are summed, and a map of another size, as layer attributions have it, is
    interpolated (linear, bilinear or trilinear, corners not aligned).

    Args:
        attributions (Tensor or tuple[Tensor, ...]): Maps (B, any, ...) with as many
            axes as ``inputs``; a tuple of one is taken as what it holds.
        inputs (Tensor): Inputs (B, C, ...) that they explain.
        name (str, optional): How errors call the maps. Default: "attributions"

    Returns:
        *Tensor*: (B, ...) without channels, in float64 on the CPU, where the sum of a
        repeated value ties no two pixels and ties are the same for all devices.

    Raises:
        ValueError: If shapes do not fit or values are NaN or infinite.
        TypeError: If ``attributions`` is no tensor.

    Examples::

        >>> spatial_maps(torch.rand(2, 1, 7, 7), torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 32, 32])
    """
    maps = check_attributions(attributions, inputs, name).cpu().double()
    return resize(maps.sum(1, keepdim=True), inputs.shape[2:])[:, 0]


def rank_maps(maps: Tensor) -> Tensor:
    """Rank of every pixel, 0 for the highest value.

    Equal values are ranked in row-major order, the first pixel first.

    Args:
        maps (Tensor): S, (B, ...).

    Returns:
        *Tensor*: Ranks 0..H*W-1 in the shape of ``maps``, int64.

    Examples::

        >>> rank_maps(torch.tensor([[[0.5, 2.0], [0.5, -1.0]]]))
        tensor([[[1, 0],
                 [2, 3]]])
    """
    order = maps.flatten(1).sort(dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(order)
    positions = torch.arange(order.shape[1], device=order.device)
    ranks.scatter_(1, order, positions.expand_as(order))
    return ranks.view(maps.shape)


def unit_maps(maps: Tensor) -> Tensor:
    """Maps in [0, 1]: negative values are clipped, and the maximum becomes 1.

    Zero stays zero, which says "no influence" in signed maps and "nothing seen" in
    others, and the scale of a map does not matter. Shifting the minimum to zero
    instead would call pixels relevant because others speak against the class.

    Args:
        maps (Tensor): S, (B, ...).

    Returns:
        *Tensor*: In the shape of ``maps``; zero where no value of a map is positive.

    Examples::

        >>> unit_maps(torch.tensor([[[-4.0, 1.0], [0.0, 2.0]]]))
        tensor([[[0.0000, 0.5000],
                 [0.0000, 1.0000]]])
    """
    positive = maps.clamp_min(0)
    highest = positive.flatten(1).amax(1).view(-1, *(1,) * (maps.dim() - 1))
    return positive / torch.where(highest > 0, highest, 1)
