"""Memory that a command keeps for its next tensors."""

import platform
import subprocess
import sys

import pytest

# Pages that four tensors of 64 MiB, one after the other, touch for the first time: some
# time after the start, when malloc has found room for the alignment too.
FAULTS = """
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


def faults(call: str) -> int:
    code = FAULTS.format(call=call)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_tensors_reuse_memory():
    assert faults("keep_freed_memory()") < faults("") / 4


def test_another_c_library_is_left_alone(monkeypatch):
    from captum_ext import _allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(_allocator.ctypes, "CDLL", lambda name: pytest.fail("called"))
    _allocator.keep_freed_memory()
