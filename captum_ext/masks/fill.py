"""Masked inputs: hidden parts are replaced by fills."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["apply_masks", "memory_format_of"]


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """Memory format in which a tensor is stored, contiguous if several apply.

    Args:
        tensor (Tensor): Tensor of any shape.

    Returns:
        *torch.memory_format*: ``channels_last`` for images (B, C, H, W) and
        ``channels_last_3d`` for video (B, C, T, H, W) that are stored this way.
    """
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

    Examples::

        >>> masks = torch.rand(5, 1, 1, 1, 8, 8)
        >>> apply_masks(torch.randn(2, 3, 8, 8), [torch.zeros(1)], masks).shape
        torch.Size([10, 3, 8, 8])
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
