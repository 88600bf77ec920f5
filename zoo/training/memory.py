"""Memory that is freed stays with the process, where the C library would give it back each time."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's names for mallopt begin with M_


def keep_freed_memory() -> None:
    """Let glibc keep large blocks for the rest of the process; other C libraries do as they do.

    Otherwise it takes each tensor of more than some hundred kilobytes anew from the kernel, which
    fills it with zeros page by page. A step of training on the CPU frees and takes the same sizes
    again and again: for the tutorial CNN at 32x32 that is a third of its time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
    mallopt(_TOP_PAD, 64 << 20)
