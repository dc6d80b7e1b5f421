"""Who computes what when several processes share the work.

An evaluation tells lists of names and counts, so gloo carries it on every machine; NCCL
would need a GPU for each process, where small models gain from sharing one. A training
tells gradients, and has NCCL where each process has a GPU.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

__all__ = [
    "from_rank_zero",
    "local_device",
    "process_group",
    "rank",
    "wait_for_all",
    "world_size",
]

# Shares differ in time, and a rank waits for the others at the end. One that has died
# is noticed at once, by its closed connection and by torchrun.
_PATIENCE = timedelta(days=30)


@contextlib.contextmanager
def process_group(device: torch.device | None = None) -> Iterator[None]:
    """Join the processes that torchrun started, if it did.

    Args:
        device (torch.device, optional): Where the tensors are that processes tell each
            other. Default: None (they tell no tensors)
    """
    if not distributed.is_torchelastic_launched():
        yield
        return
    if device is None:
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    else:
        distributed.init_process_group(_backend(device))
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _backend(device: torch.device) -> str:
    alone = int(os.environ["LOCAL_WORLD_SIZE"]) <= torch.cuda.device_count()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # NCCL needs a GPU for each process.
    return "nccl" if alone else "gloo"


def rank() -> int:
    """Number of this process, 0 without others."""
    return distributed.get_rank() if _is_shared() else 0


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if _is_shared() else 1


def local_device() -> torch.device:
    """The GPU of this process, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device(
        "cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()
    )


def from_rank_zero(value: Any) -> Any:
    """What rank 0 gave here, in every process."""
    if not _is_shared():
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def wait_for_all() -> None:
    """Return when every process has come here."""
    if _is_shared():
        distributed.barrier()


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()
