"""Which of the processes of a training this is."""

from torch import distributed

__all__ = ["place"]


def place() -> tuple[int, int]:
    """Number of this process, and of all; (0, 1) without others."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
