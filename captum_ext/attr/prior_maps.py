"""Prior maps: maps of other methods as the mean of a Gaussian process."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_ext._captum import TargetType
from captum_ext._interpolation import resize
from captum_ext._type_checks import check_tensor
from captum_ext._validation import check_attributions
from captum_ext.attr.random_masks import Attribution

__all__ = ["Prior", "prior_maps", "scaled_prior"]

#: Maps, or the ``attribute`` method of an attribution.
Prior = Attribution | Callable[..., Attribution]

# Mean absolute value of a prior map after rescaling.
_PRIOR_MEAN = 0.1


def prior_maps(maps: Sequence[Tensor], n_examples: int, size: Sequence[int]) -> Tensor:
    """Sum and rescale prior maps for the Gaussian process.

    Args:
        maps (sequence of Tensor): Maps (B, any, ...) to sum; an empty one gives zero.
        n_examples (int): Number of examples B.
        size (sequence of int): (H, W) or (T, H, W).

    Returns:
        *Tensor*: (B, H, W) or (B, T, H, W) float64 on the CPU with a mean absolute
        value of 0.1, or zero for an example whose map is constant.

    Examples::

        >>> prior_maps([torch.tensor([[[[1.0, 3.0]]]])], 1, (1, 2))
        tensor([[[0.0500, 0.1500]]], dtype=torch.float64)
    """
    total = torch.zeros(n_examples, *size, dtype=torch.float64)
    for each in maps:
        summed = each.detach().cpu().double().sum(1, keepdim=True)
        total += resize(summed, size)[:, 0]
    axes = tuple(range(1, total.dim()))
    mean = total.abs().mean(axes, keepdim=True)
    spread = total.amax(axes, keepdim=True) - total.amin(axes, keepdim=True)
    return torch.where(spread > 1e-9 * mean, _PRIOR_MEAN * total / mean, 0)


def scaled_prior(
    prior: Prior | None,
    inputs: Tensor | tuple[Tensor, ...],
    target: TargetType,
) -> Tensor | None:
    """Prior maps that an argument ``prior`` describes, checked, summed and rescaled.

    Args:
        prior (Tensor, tuple[Tensor, ...], or Callable, optional): Maps (B, any, ...)
            with as many axes as ``inputs``, or the ``attribute`` method of one.
        inputs (Tensor or tuple[Tensor, ...]): Inputs (B, C, ...) as the caller passed
            them, all of one size.
        target (int, tuple, Tensor, list, or Callable, optional): Target of the method.

    Returns:
        *Tensor*: As of :func:`prior_maps`; None for None.

    Raises:
        ValueError: If inputs have no common size, or maps do not fit or are not finite.
        TypeError: If a map is not a tensor.
    """
    if prior is None:
        return None
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    size = tensors[0].shape[2:]
    if not size or any(tensor.shape[2:] != size for tensor in tensors):
        raise ValueError(
            f"prior must be None unless inputs have axes after the channel axis, all "
            f"of one size, got inputs of shape "
            f"{', '.join(str(tuple(tensor.shape)) for tensor in tensors)}."
        )
    if callable(prior):
        prior = prior(inputs, target=target)
    maps = prior if isinstance(prior, tuple) else (prior,)
    maps = tuple(_of_each_example(each, len(tensors[0])) for each in maps)
    checked = [check_attributions(each, tensors[0], "prior") for each in maps]
    return prior_maps(checked, len(tensors[0]), size)


def _of_each_example(maps: Tensor, n_examples: int) -> Tensor:
    """Maps (B, ...); the one map (1, ...) of a batch belongs to each of its examples.

    Methods return one map for a function that returns one number per batch.
    """
    check_tensor("prior", maps, "one tensor or a tuple of one")
    if maps.dim() and len(maps) == 1:
        return maps.expand(n_examples, *maps.shape[1:])
    return maps
