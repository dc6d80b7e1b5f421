"""Freed memory stays with the process after keep_freed_memory."""

import platform
import subprocess
import sys

import pytest

# Counts page faults of four consecutive tensors of 64 MiB, after 60 others have brought
# malloc to its final size.
PAGE_FAULTS = """
import resource
import torch
from captum_ext._allocator import keep_freed_memory

{call}
for i in range(64):
    if i == 60:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(call: str) -> int:
    """Page faults in a new process that makes the call first."""
    code = PAGE_FAULTS.format(call=call)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_tensors_reuse_memory():
    assert page_faults("keep_freed_memory()") < page_faults("") / 4


def test_other_c_libraries_are_not_called(monkeypatch):
    from captum_ext import _allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(_allocator.ctypes, "CDLL", lambda name: pytest.fail("called"))
    _allocator.keep_freed_memory()
