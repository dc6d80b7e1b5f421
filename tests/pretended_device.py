"""A device that does not exist: tensors on it behave as on a GPU, values are real.

An operation on tensors of both devices raises an error, as on a GPU; copies from one to
the other, and everything else that makes the CPU wait for the device, are counted.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["DEVICE", "PretendedDevice", "placed"]

# Of no backend, so that no test depends on how torch was built.
DEVICE = torch.device("maia:0")
# The device that autograd sees: it needs one of a backend.
_INNER = torch.device("meta")
# Operations whose result, or the shape of it, the CPU has to know.
_WAITING = (
    *("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
)


class _Placed(Tensor):
    """Tensor on the device, around one with its values on the CPU."""

    values: Tensor
    device = property(lambda self: DEVICE)
    is_meta = property(lambda self: False)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self) -> str:
        return f"{self.values!r} on {DEVICE}"

    @staticmethod
    def __new__(cls, values: Tensor) -> "_Placed":
        placed = Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=_INNER,
            requires_grad=False,
        )
        placed.values = values
        return placed

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, None)


def placed(value: Any) -> Any:
    """A copy of a tensor on the device; of a module, with its weights there."""
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, each in module._parameters.items():
                if each is not None:
                    module._parameters[name] = nn.Parameter(
                        _Placed(each.detach().clone()), each.requires_grad
                    )
            for name, each in module._buffers.items():
                if each is not None:
                    module._buffers[name] = _Placed(each.clone())
        return value
    return _Placed(value.detach().clone())


def _values(value: Any) -> Any:
    return value.values if isinstance(value, _Placed) else value


def _run(func: Any, args: Any, kwargs: Any, counter: Counter[str] | None) -> Any:
    """One operation, on the device if its tensors or its result are there."""
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    there = [t for t in tensors if isinstance(t, _Placed)]
    name = func.overloadpacket.__name__
    wanted = kwargs.get("device")
    wanted = None if wanted is None else torch.device(wanted)
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    moves = name in ("_to_copy", "copy_")
    # As on a GPU, a number of the CPU may take part.
    here = [t for t in tensors if not isinstance(t, _Placed) and t.dim()]
    # Index tensors on the CPU may index one on the device: they are copied.
    is_index = name.startswith("index") and isinstance(args[0], _Placed)
    if there and here and not moves and not is_index:
        raise RuntimeError(f"Expected all tensors to be on the same device in {name}.")
    on_device = bool(there) if wanted is None else wanted in (DEVICE, _INNER)
    if moves and name == "copy_":
        on_device = isinstance(args[0], _Placed)
    if counter is not None:
        if moves and bool(there) != on_device or name == "copy_" and there and here:
            counter["to device" if on_device else "to CPU"] += 1
        if is_index and here:
            counter["to device"] += 1
        by_mask = is_index and any(
            isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8)
            for t in tree_flatten(args[1])[0]
        )
        if there and (name in _WAITING or by_mask):
            counter[name] += 1
    result = func(*tree_map(_values, args), **tree_map(_values, kwargs))
    if not on_device:
        return result
    mutated = args[0] if name.endswith("_") and not name.startswith("_") else None
    if mutated is not None:
        return mutated
    return tree_map(lambda t: _Placed(t) if isinstance(t, Tensor) else t, result)


class PretendedDevice(TorchDispatchMode):
    """Context in which tensors can be created on the device, and waits are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self._functions = _Constructors()

    def __enter__(self) -> "PretendedDevice":
        self._functions.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._functions.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, self.waits)


class _Constructors(TorchFunctionMode):
    """Tensors of numbers, which torch creates where no dispatch mode sees it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor):
            device = kwargs.pop("device", None)
            if device == DEVICE:
                return func(*args, **kwargs).to(device)
            return func(*args, **kwargs, device=device)
        return func(*args, **kwargs)
