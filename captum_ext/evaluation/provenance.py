"""Provenance of results: digest of the weights, versions, hardware and command."""

import hashlib
import inspect
import os
import pickle
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_ext import __version__
from captum_ext._state_dicts import weights_digest
from captum_ext.zoo import BlackBox

__all__ = ["called_functions", "provenance"]

_PLAIN = (str, bytes, int, float, bool, type(None), np.generic)


def called_functions(model: nn.Module) -> list[str]:
    """Name and digest of the function of each black box in a model.

    The digest covers the source of the function, and of functions of the same file that
    it calls, and what these read: numbers, strings, arrays, modules, and objects with a
    method ``predict``, such as scikit-learn's, as they are pickled. What a remote
    endpoint answers is not known.

    Args:
        model (nn.Module): Model.

    Returns:
        *list of str*: ``NAME SHA-256`` by black box; empty without any.

    Examples::

        >>> called_functions(nn.Linear(3, 2))
        []
    """
    functions = [m.function for m in model.modules() if isinstance(m, BlackBox)]
    return [_signed(function) for function in functions]


def _signed(function: Callable[..., Any]) -> str:
    digest = hashlib.sha256()
    for part in _contents(function, set()):
        digest.update(part)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{name} {digest.hexdigest()}"


def _contents(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Bytes that change with what a function does, as far as they can be read.

    Lists and dicts are left out: they may be logs or caches, which grow.
    """
    if isinstance(value, _PLAIN):
        yield repr(value).encode()
    elif id(value) not in seen:
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield weights_digest(value).encode()
        elif isinstance(value, Tensor):
            yield from _contents(value.detach().cpu().numpy(), seen)
        elif isinstance(value, np.ndarray):
            yield value.tobytes()
        elif isinstance(value, tuple):
            for each in value:
                yield from _contents(each, seen)
        elif inspect.isfunction(value):
            yield from _contents_of_function(value, seen)
        else:
            yield from _contents_of_object(value, seen)


def _contents_of_object(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Contents of a method, a partial function, a classifier or a callable object."""
    if inspect.ismethod(value):
        yield from _contents((value.__func__, value.__self__), seen)
    elif isinstance(value, partial):
        keywords = tuple(sorted(value.keywords.items()))
        yield from _contents((value.func, *value.args, keywords), seen)
    elif hasattr(value, "predict") and not inspect.ismodule(value):
        # An object that cannot be stored is known by its name only.
        with suppress(Exception):
            yield pickle.dumps(value)
    elif inspect.isfunction(inspect.getattr_static(value, "__call__", None)):
        yield from _contents_of_function(type(value).__call__, seen)
        # Numbers may count calls.
        for name, attribute in sorted(getattr(value, "__dict__", {}).items()):
            if not isinstance(attribute, (bool, int, float)):
                yield from _contents((name, attribute), seen)


def _contents_of_function(function: Any, seen: set[int]) -> Iterator[bytes]:
    try:
        yield inspect.getsource(function).encode()
    except (OSError, TypeError):
        # Without a source, as of a function typed into an interpreter.
        yield function.__code__.co_code
    found = inspect.getclosurevars(function)
    file = function.__code__.co_filename
    for name, value in sorted({**found.globals, **found.nonlocals}.items()):
        code = getattr(value, "__code__", None)
        if code is None or code.co_filename == file:
            yield name.encode()
            yield from _contents(value, seen)
    keywords = tuple(sorted((function.__kwdefaults__ or {}).items()))
    yield from _contents((function.__defaults__, keywords), seen)


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, command and start time of this process.

    Args:
        device (torch.device): Device of the model.

    Returns:
        *dict*: Strings by name.
    """
    processor = platform.processor() or platform.machine()
    return {
        "captum_ext": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("captum", "torch", "torchvision", "numpy")},
        "platform": platform.platform(),
        "hardware": (
            torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"{processor}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} threads"
        ),
        "command": shlex.join(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
