"""Modes around a forward pass: training, inference, autocast."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from captum_ext._captum import format_additional_forward_args
from captum_ext._warnings import warn_caller

__all__ = [
    "buffers_kept",
    "full_precision",
    "outside_inference_mode",
    "warn_of_training_mode",
]

# Modules of torchvision and timm that skip a whole branch at random.
_STOCHASTIC_DEPTH = ("StochasticDepth", "DropPath")


def warn_of_training_mode(forward_func: object) -> None:
    """Warn of modules in training mode that make scores random or batch-dependent.

    Args:
        forward_func (object): Model, or any function; a module is found if the function
            is one, a method of one, or a ``functools.partial`` of these.
    """
    model = _module_of(forward_func)
    if model is None or not model.training:
        return
    found = [
        (name, module) for name, module in model.named_modules() if _varies(module)
    ]
    if not found:
        return
    name, module = found[0]
    others = f" and {len(found) - 1} others" if len(found) > 1 else ""
    warn_caller(
        f"forward_func should be in eval mode, got {type(module).__name__} "
        f"{name or 'itself'!r}{others} in training mode, with which a score depends on "
        f"its batch or on chance: call model.eval() first."
    )


def _varies(module: nn.Module) -> bool:
    is_random = isinstance(module, _DropoutNd) and module.p > 0
    by_name = type(module).__name__ in _STOCHASTIC_DEPTH
    return module.training and (is_random or by_name or isinstance(module, _BatchNorm))


@contextlib.contextmanager
def buffers_kept(forward_func: object) -> Iterator[None]:
    """Restore the buffers of modules in training mode at the end of the context.

    Masked or noisy inputs would otherwise move the running statistics of the model.

    Args:
        forward_func (object): Model, or any function, as for
            :func:`warn_of_training_mode`.
    """
    model = _module_of(forward_func)
    saved = [
        (module, name, buffer, buffer.detach().clone())
        for module in (() if model is None else model.modules())
        if module.training
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, before in saved:
                buffer.copy_(before)
                # A module may have put another tensor in its place.
                setattr(module, name, buffer)


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Turn autocast off: it is meant for the model, not for arithmetic on scores.

    Args:
        device (torch.device): Device of the inputs; the CPU is always included.
    """
    with torch.autocast("cpu", enabled=False):
        with torch.autocast(device.type, enabled=False):
            yield


def outside_inference_mode(arguments: object) -> tuple[Any, ...] | None:
    """Arguments of a forward function that can take part in a backward pass.

    Args:
        arguments (Any): Further arguments in any of Captum's forms.

    Returns:
        *tuple* or *None*: The same; of tensors of inference mode, copies.
    """
    formatted = format_additional_forward_args(arguments)
    return formatted and tuple(
        value.clone() if isinstance(value, Tensor) and value.is_inference() else value
        for value in formatted
    )


def _module_of(forward_func: object) -> nn.Module | None:
    while isinstance(forward_func, functools.partial):
        forward_func = forward_func.func
    owner = getattr(forward_func, "__self__", None)
    for each in (forward_func, owner):
        if isinstance(each, nn.Module):
            return each
    return None
