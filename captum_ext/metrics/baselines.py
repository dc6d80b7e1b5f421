"""Baselines by name in a model's input space, and its normalization."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from captum_ext._type_checks import (
    check_finite,
    check_numbers,
    check_sequence,
    check_tensor,
)
from captum_ext._validation import check_choice

__all__ = ["BASELINES", "Normalization", "channel_statistics", "named_baseline"]

BASELINES = ("black", "mean", "blur", "white")
"""Names of baselines."""

Normalization: TypeAlias = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]
"""Mean and standard deviation by which pixels in [0, 1] were normalized."""

# The blur of RISE's authors: at ImageNet's sizes it keeps colors but not shapes.
_BLUR_SIZE, _BLUR_SIGMA = 11, 5.0


def channel_statistics(
    normalization: Normalization | None, inputs: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a normalization, for arithmetic with inputs.

    Args:
        normalization (tuple, optional): Mean and standard deviation, one number per
            channel each. None is 0 and 1.
        inputs (Tensor): Inputs (B, C, ...).

    Returns:
        *tuple[Tensor, Tensor]*: Mean and standard deviation, broadcastable to
        ``inputs``, in its dtype.

    Raises:
        ValueError: If there are not two numbers per channel, or if a standard deviation
            is not positive.

    Examples::

        >>> channel_statistics(((0.5,), (0.25,)), torch.rand(2, 1, 4))
        (tensor([[0.5000]]), tensor([[0.2500]]))
    """
    if normalization is None:
        return inputs.new_zeros(()), inputs.new_ones(())
    pair = check_sequence("normalization", normalization, "a mean and a deviation")
    statistics = [check_numbers("normalization", each).to(inputs) for each in pair]
    shapes = [tuple(each.shape) for each in statistics]
    if shapes != [(inputs.shape[1],)] * 2:
        raise ValueError(
            f"normalization must be the mean and the standard deviation of the "
            f"{inputs.shape[1]} channels, got shapes {shapes}."
        )
    mean, std = (each.view(-1, *(1,) * (inputs.dim() - 2)) for each in statistics)
    if not (std > 0).all():
        raise ValueError(
            f"normalization must have positive standard deviations, got "
            f"{std.flatten().tolist()}."
        )
    return mean, std


def named_baseline(
    name: str, inputs: Tensor, normalization: Normalization | None = None
) -> Tensor:
    """Baseline by its name, in the space of normalized inputs.

    Args:
        name (str): "black"; "mean", the mean color of the normalization, which is zero
            for normalized inputs; "blur", the inputs under a Gaussian blur of sigma 5
            over 11 x 11 pixels; or "white".
        inputs (Tensor): Inputs (B, C, ...).
        normalization (tuple, optional): Mean and standard deviation by which pixels in
            [0, 1] were normalized, one number per channel each. Default: None (inputs
            are pixels in [0, 1])

    Returns:
        *Tensor*: Baseline to pass to a metric, in the shape of ``inputs`` for "blur",
        else broadcastable to it.

    Raises:
        ValueError: If the name is unknown, if a mean color is asked for without
            normalization, if a blur is asked for without height and width, or if the
            normalization does not fit the channels.

    Examples::

        >>> x, normalization = torch.rand(1, 1, 8, 8), ((0.5,), (0.25,))
        >>> names = ("black", "mean", "white")
        >>> [named_baseline(name, x, normalization).item() for name in names]
        [-2.0, 0.0, 2.0]
    """
    check_choice("name", name, BASELINES)
    check_finite("inputs", check_tensor("inputs", inputs))
    if inputs.dim() < 2:
        raise ValueError(f"inputs must be (B, C, ...), got {tuple(inputs.shape)}.")
    mean, std = channel_statistics(normalization, inputs)
    if name == "blur":
        return _blurred(inputs)
    if name == "mean" and normalization is None:
        raise ValueError("normalization must be given for the mean color, got None.")
    black, white = torch.zeros_like(mean), torch.ones_like(mean)
    color = {"black": black, "mean": mean, "white": white}[name]
    return (color - mean) / std


def _blurred(inputs: Tensor) -> Tensor:
    from torchvision.transforms.functional import gaussian_blur

    if inputs.dim() < 4:
        raise ValueError(
            f"baselines must not be 'blur' for inputs without height and width, got "
            f"inputs of shape {tuple(inputs.shape)}."
        )
    # Reflection padding must be narrower than the image.
    size = [
        min(_BLUR_SIZE, 2 * side - 1) for side in (inputs.shape[-1], inputs.shape[-2])
    ]
    frames = inputs.flatten(0, 1)
    return gaussian_blur(frames, size, [_BLUR_SIGMA] * 2).view(inputs.shape)
