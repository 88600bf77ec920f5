"""What the processor calls itself."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def model_name() -> str:
    """Its model, ``AMD EPYC 9554 64-Core Processor`` say; its architecture if that is unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()
