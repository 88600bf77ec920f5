"""The most memory that a step takes, of the process's own counters."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

WARM_UP = 3
"""Steps after which an optimizer has its state, and libraries their buffers."""


def rise(work: Callable[[], object]) -> float:
    """How far resident memory rises above the level before some work, in MiB.

    Before it, freed memory is returned to the system where malloc holds it, and the kernel's
    high-water mark is set back.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    level = _status("VmRSS")
    work()
    return _status("VmHWM") - level


def _status(name: str) -> float:
    """MiB of a line of the process's status."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1024
