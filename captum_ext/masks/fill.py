"""Masked inputs: hidden parts are replaced by fills."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext._type_checks import check_finite, check_sequence, check_tensor
from captum_ext._validation import broadcasts

__all__ = ["apply_masks", "memory_format_of", "replaced"]

_ROUNDING = 1e-2


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """Memory format in which a tensor is stored, contiguous if several apply.

    Args:
        tensor (Tensor): Tensor of any shape.

    Returns:
        *torch.memory_format*: ``channels_last`` for images (B, C, H, W) and
        ``channels_last_3d`` for video (B, C, T, H, W) that are stored this way.
    """
    check_tensor("tensor", tensor)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = formats.get(tensor.dim())
    if last is None or tensor.is_contiguous():
        return torch.contiguous_format
    stored = tensor.is_contiguous(memory_format=last)
    return last if stored else torch.contiguous_format


def apply_masks(inputs: Tensor, fills: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Replace the hidden parts of inputs by fills.

    With m_0 = 1 - sum_k m_k this is i' = i m_0 + sum_k c_k m_k, Equation (8) of
    MC-RISE; for one fill it is RISE's i * m over a baseline.

    Args:
        inputs (Tensor): i, (B, ...).
        fills (sequence of Tensor): The K fills c_k, each broadcastable to ``inputs``.
        masks (Tensor): m_k in [0, 1], (M, K, 1 or B, ...).

    Returns:
        *Tensor*: (M * B, ...), mask by mask, in the dtype and memory format of
        ``inputs``.

    Raises:
        ValueError: If shapes do not fit, if there is not one fill for each k, if a
            number is NaN or infinite, or if masks leave [0, 1], also in sum over k.
        TypeError: If an argument is not a tensor.

    Examples::

        >>> masks = torch.rand(5, 1, 1, 1, 8, 8)
        >>> apply_masks(torch.randn(2, 3, 8, 8), [torch.zeros(1)], masks).shape
        torch.Size([10, 3, 8, 8])
    """
    _check_masks(inputs, fills, masks)
    return replaced(inputs, fills, masks)


def replaced(inputs: Tensor, fills: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Replace hidden parts as :func:`apply_masks` does, without its checks.

    The checks make the CPU wait for a GPU.

    Args:
        inputs (Tensor): i, (B, ...).
        fills (sequence of Tensor): The K fills c_k, each broadcastable to ``inputs``.
        masks (Tensor): m_k in [0, 1], (M, K, 1 or B, ...).

    Returns:
        *Tensor*: (M * B, ...), mask by mask.

    Examples::

        >>> replaced(torch.ones(1, 1, 2), [torch.zeros(1)], torch.ones(1, 1, 1, 1, 2))
        tensor([[[0., 0.]]])
    """
    n_masks = masks.shape[0]
    if inputs.dtype.is_floating_point:
        masks = masks.to(inputs.dtype)
        masked = inputs.expand(n_masks, *inputs.shape)
        for k, fill in enumerate(fills):
            masked = torch.addcmul(masked, masks[:, k], fill - inputs)
    else:
        masked = inputs.expand(n_masks, *inputs.shape)
        for k, fill in enumerate(fills):
            masked = torch.where(masks[:, k] > 0.5, fill, masked)
    return masked.flatten(0, 1).contiguous(memory_format=memory_format_of(inputs))


def _check_masks(inputs: Tensor, fills: Sequence[Tensor], masks: Tensor) -> None:
    """Check the shapes of masks and fills, and that masks lie in [0, 1]."""
    check_finite("inputs", check_tensor("inputs", inputs))
    check_tensor("masks", masks)
    for fill in check_sequence("fills", fills, "tensors"):
        check_finite("fills", check_tensor("fills", fill, "tensors"))
        if not broadcasts(fill.shape, inputs.shape):
            raise ValueError(
                f"fills must broadcast to inputs of shape {tuple(inputs.shape)}, got "
                f"{tuple(fill.shape)}."
            )
    fits = masks.dim() == inputs.dim() + 2 and masks.numel() > 0
    if not fits or not broadcasts(masks.shape[2:], inputs.shape):
        raise ValueError(
            f"masks must have shape (M, K, 1 or B, ...), with axes after K that "
            f"broadcast to inputs of shape {tuple(inputs.shape)}, got "
            f"{tuple(masks.shape)}."
        )
    if len(fills) != masks.shape[1]:
        raise ValueError(
            f"fills must hold one fill for each of {masks.shape[1]} masks of a pixel, "
            f"got {len(fills)}."
        )
    low, most = masks.amin(), (masks.sum(1) if len(fills) > 1 else masks).amax()
    # Written so that NaN fails; layouts and half precision round.
    if not (low >= -_ROUNDING and most <= 1 + _ROUNDING):
        raise ValueError(
            f"masks must lie in [0, 1], also in sum over fills, got "
            f"{float(low):.3g} to {float(most):.3g}."
        )
