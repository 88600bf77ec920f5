"""Memory that is freed stays with the process, where the C library would give it back each time."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's names for mallopt begin with M_


class _Place(ctypes.Structure):
    """``Dl_info``: in which file an address lies."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let glibc keep large blocks for the rest of the process; other C libraries do as they do.

    Otherwise it takes each tensor of more than some hundred kilobytes anew from the kernel, which
    fills it with zeros page by page. A step of training on the CPU frees and takes the same sizes
    again and again: for the tutorial CNN at 32x32 that is a third of its time.

    Who has set malloc's own variables, or loaded another malloc, has chosen already.

    Returns:
        whether it does from now on.
    """
    tuned = any(name.startswith("MALLOC_") for name in environment)
    if tuned or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or not _is_glibcs():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Blocks with a mapping of their own are given back when they are freed: have none.
    return bool(
        mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1) and mallopt(_TOP_PAD, 64 << 20)
    )


def _is_glibcs() -> bool:
    """Whether malloc is that of glibc."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018
        place = _Place()
        address = ctypes.cast(library.malloc, ctypes.c_void_p)
        found = library.dladdr(address, ctypes.byref(place))
    except (OSError, AttributeError):
        return False
    return bool(found) and os.path.basename(place.file or b"").startswith(b"libc")
