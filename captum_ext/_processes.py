"""Distributed processes: the process group, ranks, broadcasts, locked folders.

An evaluation exchanges only names and counts and always uses gloo: NCCL would need one
GPU per process, but small models gain from sharing a GPU. A training run exchanges
gradients and uses NCCL if each process has a GPU.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch
from torch import distributed

__all__ = [
    "barrier",
    "broadcast_object",
    "local_device",
    "only_writer",
    "process_group",
    "rank",
    "world_size",
]

# Ranks take different times for their shares and wait for each other at the end. A rank
# that has died is noticed at once, by its closed connection and by torchrun.
_TIMEOUT = timedelta(days=30)


@contextlib.contextmanager
def process_group(device: torch.device | None = None) -> Iterator[None]:
    """Initialize the process group within the context, if started by torchrun.

    Args:
        device (torch.device, optional): Device of the tensors that the processes
            exchange. Default: None (only objects are exchanged)
    """
    if not distributed.is_torchelastic_launched():
        yield
        return
    if device is None:
        distributed.init_process_group("gloo", timeout=_TIMEOUT)
    else:
        distributed.init_process_group(_backend(device))
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _backend(device: torch.device) -> str:
    """NCCL if each process has a GPU; it can neither use the CPU nor share a GPU."""
    if device.type != "cuda":
        return "gloo"
    torch.cuda.set_device(device)
    n_processes = int(os.environ["LOCAL_WORLD_SIZE"])
    return "nccl" if n_processes <= torch.cuda.device_count() else "gloo"


def rank() -> int:
    """Rank of this process, 0 without a process group."""
    return distributed.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return distributed.get_world_size() if _is_distributed() else 1


def local_device() -> torch.device:
    """GPU of this process, or the CPU without a GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device(
        "cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()
    )


def broadcast_object(value: Any) -> Any:
    """Return the value of rank 0 in every process."""
    if not _is_distributed():
        return value
    objects = [value]
    distributed.broadcast_object_list(objects)
    return objects[0]


def barrier() -> None:
    """Wait until every process has reached this call."""
    if _is_distributed():
        distributed.barrier()


@contextlib.contextmanager
def only_writer(folder: Path | None) -> Iterator[None]:
    """Keep the processes of any other run out of a folder within the context.

    A lock of the operating system, which ends with its process, however it ends: rank r
    holds byte r of the file ``.lock``, and rank 0 starts only if nobody holds any.
    Where a file system has no locks, and on Windows, all are let in.

    Args:
        folder (Path, optional): Folder, which is created if there is none; None locks
            nothing.

    Raises:
        ValueError: In all processes, if another run writes to the folder.
        OSError: In all processes, if the folder cannot be written.
    """
    if folder is None:
        yield
        return
    problem: Exception | None = None
    with contextlib.ExitStack() as stack:
        if rank() == 0:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _lock(stack.enter_context(open(folder / ".lock", "ab")), folder)
            except ValueError as error:
                problem = error
            except OSError as error:
                problem = OSError(
                    f"output {str(folder)!r} cannot be written "
                    f"({error.strerror or error})."
                )
        problem = broadcast_object(problem)
        if problem is not None:
            raise problem
        if rank() > 0:
            _lock(stack.enter_context(open(folder / ".lock", "ab")), folder)
        yield


def _lock(file: IO[bytes], folder: Path) -> None:
    """Lock the byte of this rank; the first one finds all others free."""
    if sys.platform == "win32":
        return
    import fcntl

    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        if rank() == 0:
            fcntl.lockf(file, exclusive)
            fcntl.lockf(file, fcntl.LOCK_UN, 0, 1)
        else:
            fcntl.lockf(file, exclusive, 1, rank())
    except (BlockingIOError, PermissionError) as error:
        raise ValueError(
            f"output must be a folder to which no other run writes, got "
            f"{str(folder)!r}: wait for the other run or end it."
        ) from error
    except OSError:
        # The file system has no locks.
        return


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
