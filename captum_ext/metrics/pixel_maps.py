"""Inputs and attribution maps of metrics: checks, sums over channels, ranks.

Every metric starts here: maps of any form become one number per pixel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext._interpolation import resize
from captum_ext._validation import UNBATCHED, check_attributions, check_inputs
from captum_ext._warnings import warn_caller

__all__ = [
    "check_masks",
    "check_metric_input",
    "highest_pixels",
    "is_constant",
    "rank_maps",
    "spatial_maps",
    "unit_maps",
]

_INPUT_SHAPES = {3: "(B, C, L)", 4: "(B, C, H, W)", 5: "(B, C, T, H, W)"}


def check_metric_input(
    inputs: Tensor | tuple[Tensor, ...], axes: Sequence[int] = (3, 4, 5)
) -> Tensor:
    """The one input of a metric, checked and detached.

    Args:
        inputs (Tensor or tuple[Tensor, ...]): Inputs, one tensor or a tuple of one.
        axes (sequence of int, optional): Numbers of axes that the metric supports.
            Default: (3, 4, 5)

    Returns:
        *Tensor*: The input (B, C, ...).

    Raises:
        ValueError: If there are several inputs, if they have another number of axes, or
            if they are not finite.
        TypeError: If the input is not a floating point tensor.
    """
    tensors = check_inputs(inputs)
    if len(tensors) != 1:
        raise ValueError(
            f"inputs must be one tensor or a tuple of one, got {len(tensors)} tensors."
        )
    tensor = tensors[0]
    if tensor.dim() not in axes:
        raise ValueError(
            f"inputs must be {' or '.join(_INPUT_SHAPES[n] for n in axes)}, got shape "
            f"{tuple(tensor.shape)}; give one image (C, H, W) as {UNBATCHED}."
        )
    if not tensor.is_floating_point():
        raise TypeError(f"inputs must be floating point, got {tensor.dtype}.")
    return tensor.detach()


def spatial_maps(
    attributions: Tensor | tuple[Tensor, ...],
    inputs: Tensor,
    name: str = "attributions",
    mean: bool = False,
) -> Tensor:
    """One signed number per pixel of the inputs.

    Maps are summed over channels and, if their size is not that of the inputs, as for
    layer attributions, interpolated (linear, bilinear or trilinear, corners not
    aligned). A map that is constant up to rounding becomes exactly constant. Inputs of
    three axes are series (B, C, L); a warning says so if their maps have several
    channels, since they may be sequences (B, L, C) as well.

    Args:
        attributions (Tensor or tuple[Tensor, ...]): Maps (B, any, ...) with as many
            axes as ``inputs``, one tensor or a tuple of one.
        inputs (Tensor): Explained inputs (B, C, ...).
        name (str, optional): Name of the maps in error messages.
            Default: "attributions"
        mean (bool, optional): Whether channels are averaged instead, for masks that are
            the same in all channels. Default: False

    Returns:
        *Tensor*: (B, ...) without channels, in float64 on the CPU: sums over equal
        channels do not round distinct pixels to one value, and ties are the same on
        all devices.

    Raises:
        ValueError: If shapes do not match, values are NaN or infinite, or the map of a
            sequence has one feature.
        TypeError: If ``attributions`` is not a tensor.

    Examples::

        >>> spatial_maps(torch.rand(2, 1, 7, 7), torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 32, 32])
    """
    maps = check_attributions(attributions, inputs, name).cpu().double()
    if inputs.dim() == 3:
        _check_series(maps, inputs, name)
    values = maps.mean(1, keepdim=True) if mean else maps.sum(1, keepdim=True)
    values = resize(values, inputs.shape[2:])[:, 0]
    # Rounding must not put the pixels of a constant map in an order.
    constant = is_constant(values).view(-1, *(1,) * (values.dim() - 1))
    return torch.where(constant, values.flatten(1).amax(1).view_as(constant), values)


def _check_series(maps: Tensor, inputs: Tensor, name: str) -> None:
    """Warn of maps that may be of sequences (B, L, C), or raise an error if they are.

    A map with one channel says which axis is that of the channels.
    """
    _, n_channels, n_positions = maps.shape
    if n_channels == 1 or inputs.shape[1] == 1:
        return
    advice = (
        f"exchange the axes of sequences (B, L, C), such as embedded tokens: pass "
        f"lambda x: forward_func(x.mT), inputs.mT and {name}.sum(2, keepdim=True).mT"
    )
    if n_positions == 1 < inputs.shape[2]:
        raise ValueError(
            f"{name} must be maps (B, any, L) of series (B, C, L), got shape "
            f"{tuple(maps.shape)} for inputs of shape {tuple(inputs.shape)}; {advice}."
        )
    warn_caller(
        f"{name} of shape {tuple(maps.shape)} are summed over axis 1, the channels of "
        f"series; pass {name}.sum(1, keepdim=True) if that is right; {advice}."
    )


def check_masks(maps: Tensor) -> Tensor:
    """The maps, checked to lie in [0, 1].

    Args:
        maps (Tensor): Maps S, (B, ...).

    Returns:
        *Tensor*: ``maps``.

    Raises:
        ValueError: If a value lies outside of [0, 1].
    """
    if maps.min() < 0 or maps.max() > 1:
        raise ValueError(
            f"attributions must lie in [0, 1] to be masks, got values from "
            f"{float(maps.min()):.3g} to {float(maps.max()):.3g}."
        )
    return maps


def is_constant(maps: Tensor) -> Tensor:
    """Whether a map has the same value everywhere, up to rounding.

    Such a map says nothing about where the object is. Metrics give it the level of
    chance.

    Args:
        maps (Tensor): Maps S, (B, ...).

    Returns:
        *Tensor*: Boolean tensor (B,).

    Examples::

        >>> is_constant(torch.tensor([[[0.3, 0.3]], [[0.3, 0.4]]]))
        tensor([ True, False])
    """
    return highest_pixels(maps).flatten(1).all(1)


def highest_pixels(maps: Tensor) -> Tensor:
    """The pixels of the highest value, up to rounding.

    Args:
        maps (Tensor): Maps S, (B, ...).

    Returns:
        *Tensor*: Boolean tensor in the shape of ``maps``.

    Examples::

        >>> highest_pixels(torch.tensor([[[0.3, 0.4], [0.4, 0.1]]]))
        tensor([[[False,  True],
                 [ True, False]]])
    """
    flat = maps.flatten(1)
    low, high = flat.aminmax(dim=1, keepdim=True)
    # Interpolation of equal values rounds, in float32 if a method did it.
    rounding = 1e-6 * torch.maximum(low.abs(), high.abs())
    return (flat >= high - rounding).view(maps.shape)


def rank_maps(maps: Tensor) -> Tensor:
    """Rank of every pixel, 0 for the highest value.

    Equal values are ranked in row-major order, the first pixel first. A constant map
    ranks no pixel above another: its pixels get one random order, the same for all maps
    of a size.

    Args:
        maps (Tensor): Maps S, (B, ...).

    Returns:
        *Tensor*: Ranks 0 to H*W - 1 in the shape of ``maps``, int64.

    Examples::

        >>> rank_maps(torch.tensor([[[0.5, 2.0], [0.5, -1.0]]]))
        tensor([[[1, 0],
                 [2, 3]]])
    """
    order = maps.flatten(1).sort(dim=1, descending=True, stable=True).indices
    constant = is_constant(maps)
    if constant.any():
        generator = torch.Generator().manual_seed(0)
        order[constant] = torch.randperm(order.shape[1], generator=generator).to(order)
    ranks = torch.empty_like(order)
    positions = torch.arange(order.shape[1], device=order.device)
    ranks.scatter_(1, order, positions.expand_as(order))
    return ranks.view(maps.shape)


def unit_maps(maps: Tensor) -> Tensor:
    """Maps clipped at zero and divided by their maximum.

    The scale of a map does not matter, and zero, which means "no influence", stays
    zero. Shifting the minimum to zero instead would make pixels relevant because other
    pixels are negative.

    Args:
        maps (Tensor): Maps S, (B, ...).

    Returns:
        *Tensor*: Values in [0, 1] in the shape of ``maps``; a map without positive
        values becomes zero.

    Examples::

        >>> unit_maps(torch.tensor([[[-4.0, 1.0], [0.0, 2.0]]]))
        tensor([[[0.0000, 0.5000],
                 [0.0000, 1.0000]]])
    """
    positive = maps.clamp_min(0)
    highest = positive.flatten(1).amax(1).view(-1, *(1,) * (maps.dim() - 1))
    return positive / torch.where(highest > 0, highest, 1)
