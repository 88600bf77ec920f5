"""The most memory that a step takes, of the process's own counters."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WARM_UP = 3  # steps after which an optimizer has its state, and libraries their buffers


def peaks(step: Callable[[], object], repeats: int) -> dict[str, Any]:
    """``peak_mb``: how far resident memory rose above the level before each of some steps, in MiB.

    Before each, freed memory is returned to the system, and the kernel's high-water mark is set
    back. ``level_mb`` is the level before the last one.
    """
    for _ in range(_WARM_UP):
        step()
    found, level = [], 0.0
    for _ in range(repeats):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        level = _status("VmRSS")
        step()
        found.append(_status("VmHWM") - level)
    return {"peak_mb": found, "level_mb": level}


def _status(name: str) -> float:
    """MiB of a line of the process's status."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1024
