"""Timing on a GPU: events on its own clock, a cold second-level cache, and what GPU it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch

from zoo.benchmark.machine import describe_driver

WARM_UP = 3
"""Untimed calls at the beginning of a block: a CUDA graph of torch.compile's first runs as it is,
then records, and only from then on replays.
"""

PAUSE_S = 100e-6
"""Least seconds between two timed calls, in which the device overwrites its cache."""


class Event(Protocol):
    """A moment on a device's clock, such as :class:`torch.cuda.Event`."""

    def record(self) -> object:
        """Have the device note the time when it has done what was begun before."""

    def elapsed_time(self, end: Any) -> float:
        """Milliseconds from this moment to a later one; both must have passed."""


class EventClock:
    """Times each call by an event before and one after it, in the device's own time.

    All calls of a block are handed to the device at once, so that it does not wait for the host:
    the pauses between them must last longer than the host takes to begin a call.

    Args:
        event: makes an event.
        pause: begins what the device does between two calls, which is not counted.
        wait: returns when the device has done everything.
    """

    def __init__(
        self, event: Callable[[], Event], pause: Callable[[], object], wait: Callable[[], None]
    ) -> None:
        self._event, self._pause = event, pause
        self.wait = wait
        self._pairs: list[tuple[Event, Event]] = []

    def block(self, run: Callable[[], object], calls: int) -> float:
        """Seconds of the median call of a block, after ``WARM_UP`` untimed ones."""
        while len(self._pairs) < calls:
            self._pairs.append((self._event(), self._event()))
        for _ in range(WARM_UP):
            run()
        pairs = self._pairs[:calls]
        for begin, end in pairs:
            self._pause()
            begin.record()
            run()
            end.record()
        self.wait()
        return statistics.median(begin.elapsed_time(end) for begin, end in pairs) / 1e3


def missing() -> str | None:
    """Why there is no GPU that this PyTorch can use, in a line; None where there is one."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).partition("\n")[0].rstrip(".")
    return None


def prepare() -> dict[str, bool]:
    """Have PyTorch search for cuDNN's quickest algorithms, and round no float32 to TF32.

    Returns what it says of these settings then.
    """
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return {
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
    }


def clock() -> tuple[EventClock, dict[str, Any]]:
    """The current device's clock, and what its pauses consist of.

    Before each call twice as much memory is written as the second-level cache holds, as often as it
    takes to last ``PAUSE_S``: so nothing of a call is left in the cache for the next. Copies of the
    operands, used in turn, would do the same to the inputs, but small ones would have to be there a
    thousand times, and each candidate made for each of them. Nor would they keep the device busy
    until the host has begun the next call.
    """
    cache = torch.cuda.get_device_properties().L2_cache_size or 64 << 20
    memory = torch.empty(2 * cache, dtype=torch.uint8, device="cuda")
    event = partial(torch.cuda.Event, enable_timing=True)
    bare = EventClock(event, lambda: None, torch.cuda.synchronize)
    writes = math.ceil(PAUSE_S / bare.block(memory.zero_, 20))

    def pause() -> None:
        for _ in range(writes):
            memory.zero_()

    timer = EventClock(event, pause, torch.cuda.synchronize)
    facts = {
        "cleared_bytes": memory.nbytes,
        "cleared_times": writes,
        "empty_us": timer.block(lambda: None, 100) * 1e6,
    }
    return timer, facts


def describe_gpu() -> dict[str, Any]:
    """The current device, its clocks at this moment in MHz, and the versions that drive it."""
    properties = torch.cuda.get_device_properties()
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cache_bytes": properties.L2_cache_size,
        "cuda": torch.version.cuda,
        "cudnn": format_cudnn(cudnn) if cudnn else None,
        **describe_driver(f"GPU-{properties.uuid}"),
    }


def format_cudnn(version: int) -> str:
    """Write cuDNN's version number as people do: 91002 is 9.10.2, and 8902 is 8.9.2."""
    major = 10000 if version >= 90000 else 1000
    return f"{version // major}.{version % major // 100}.{version % 100}"
