"""How this process treats memory that tensors no longer need."""

import ctypes
import platform

__all__ = ["keep_freed_memory"]

# Of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed, for the rest of the process.

    By default large tensors are mapped anew each time, and the kernel clears every page
    of them at its first touch: on a CPU, passes of 32 images took up to twice as long
    for it. Only for a process that is ours alone, such as a command: this holds for all
    of it, and it stays as large as it ever was. Does nothing with another C library.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
