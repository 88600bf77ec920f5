"""Whether freed memory is kept, and that it stays as it is where a user has chosen otherwise."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from zoo.training.memory import keep_freed_memory

COUNT = """
import resource
from zoo.training.memory import keep_freed_memory

if {kept}:
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kept: bool) -> int:
    """Pages that a process takes from the kernel for blocks of the same size, again and again."""
    command = [sys.executable, "-c", COUNT.format(kept=kept)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_kept():
    assert 10 * faults(kept=True) < faults(kept=False)


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "100000"},
        {"MALLOC_ARENA_MAX": "2"},
        {"GLIBC_TUNABLES": "glibc.cpu.x=1:glibc.malloc.mmap_max=8"},
    ],
    ids=str,
)
def test_a_users_own_choice_stays(environment):
    assert not keep_freed_memory(environment)
