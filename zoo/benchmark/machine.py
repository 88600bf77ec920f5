"""What a measurement was made on, and whether the machine was disturbed meanwhile."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo._version import __version__
from zoo.processor import model_name

STEAL_LIMIT = 0.01
"""Share of the processors' time that the hypervisor may give to others during a round."""

PRESSURE_LIMIT = 0.05
"""Share of a round in which some task may have waited for a processor."""

_TUNED_MALLOC = {
    # Without these glibc gives large blocks back to the kernel and takes them anew on every
    # call, and page faults drown what is measured: for all candidates alike.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}

_INSTRUCTION_SETS: dict[str | None, dict[str, str]] = {
    level: {
        "ZOO_CPU_CAPABILITY": level,
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
    }
    for level, aten, onednn, mkl in (
        ("avx512", "avx512", "AVX512_CORE", "AVX512"),
        ("avx2", "avx2", "AVX2", "AVX2"),
        # The lowest that each knows: four lanes, like zoo's own vectors of GCC's making.
        ("scalar", "default", "SSE41", "SSE4_2"),
    )
}
"""Level -> the variables that hold zoo, ATen, oneDNN and MKL to it, read when they are loaded."""


SMI_FIELDS = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")
"""What nvidia-smi is asked."""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def parse_steal(stat: str) -> int | None:
    """Clock ticks stolen from all processors so far, from the text of ``/proc/stat``."""
    match = re.search(r"^cpu +((?:\d+ ?)+)$", stat, re.MULTILINE)
    fields = match[1].split() if match else []
    return int(fields[7]) if len(fields) > 7 else None


def parse_pressure(pressure: str) -> int | None:
    """Microseconds in which some task waited, from the text of ``/proc/pressure/cpu``."""
    match = re.search(r"^some .*\btotal=(\d+)$", pressure, re.MULTILINE)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one moment; None where the system does not keep them."""

    seconds: float
    steal_ticks: int | None
    pressure_us: int | None

    @classmethod
    def take(cls) -> Snapshot:
        """Read the counters."""
        return cls(
            time.perf_counter(),
            parse_steal(_read("/proc/stat")),
            parse_pressure(_read("/proc/pressure/cpu")),
        )


def disturbance(
    before: Snapshot,
    after: Snapshot,
    *,
    processors: int | None = None,
    ticks_per_second: int | None = None,
) -> float:
    """How much was taken away between two moments, in units of what is tolerated (1)."""
    wall = after.seconds - before.seconds
    processors = processors or os.cpu_count() or 1
    ticks_per_second = ticks_per_second or os.sysconf("SC_CLK_TCK")
    worst = 0.0
    if before.steal_ticks is not None and after.steal_ticks is not None:
        stolen = (after.steal_ticks - before.steal_ticks) / ticks_per_second
        worst = stolen / (wall * processors) / STEAL_LIMIT
    if before.pressure_us is not None and after.pressure_us is not None:
        waited = (after.pressure_us - before.pressure_us) / 1e6
        worst = max(worst, waited / wall / PRESSURE_LIMIT)
    return worst


def usable_cpus() -> list[int]:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def wake_politely() -> None:
    """Have this process and those that it starts displace nobody when they wake up, on Linux.

    Whoever asks a process for its block goes to sleep right after that. Displaced before it got so
    far, it would wait through the block for the processor, as on a busy machine.
    """
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def others_run() -> bool:
    """Whether another thread of this process runs or waits for a processor, where /proc tells."""
    own = str(threading.get_native_id())
    states = [
        _read(str(thread / "stat")).rpartition(")")[2].split()[:1]
        for thread in Path("/proc/self/task").glob("*")
        if thread.name != own
    ]
    return ["R"] in states


def resident_bytes() -> int:
    """Memory of this process that is in the machine's, where /proc tells; otherwise 0."""
    match = re.search(r"^VmRSS:\s+(\d+) kB$", _read("/proc/self/status"), re.MULTILINE)
    return int(match[1]) << 10 if match else 0


def available_bytes() -> int | None:
    """Memory that new tensors can have without swapping; None where nobody tells."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    return int(found[1]) * 1024 if found else None


def last_cache_bytes() -> int:
    """Size of the processor's last cache; 32 MiB where it is not known."""
    return max(map(_bytes, _caches().values()), default=0) or 32 << 20


def cache_capacities(
    cpus: Iterable[int], folder: Path = Path("/sys/devices/system/cpu")
) -> dict[str, int]:
    """Bytes of the data caches that some processors have together, by level: ``L1`` first.

    Empty where the system does not say.
    """
    found: dict[str, dict[str, int]] = {}
    for cpu in cpus:
        for index in sorted(folder.glob(f"cpu{cpu}/cache/index*")):
            level, kind, size, shared = _words(index, "level", "type", "size", "shared_cpu_list")
            if kind != "Instruction" and _bytes(size):
                found.setdefault(f"L{level}", {})[shared or str(cpu)] = _bytes(size)
    return {level: sum(found[level].values()) for level in sorted(found)}


def worker_environment(cpu_capability: str | None = None) -> dict[str, str]:
    """Environment of a measuring process: this one's, with a malloc that keeps its memory.

    With a CPU capability zoo and PyTorch's libraries are held to that instruction set.
    """
    return {**_TUNED_MALLOC, **os.environ, **_INSTRUCTION_SETS.get(cpu_capability, {})}


def how_it_ended(code: int) -> str:
    """Say how a process ended, of its return code."""
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}"


def describe_machine() -> dict[str, Any]:
    """Processor, memory settings, versions and commit, without importing torch."""
    return {
        "cpu": model_name(),
        "cpus": os.cpu_count(),
        "caches": _caches(),
        "kernel": platform.release(),
        "huge_pages": _bracketed(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "counts_steal": parse_steal(_read("/proc/stat")) is not None,
        "counts_pressure": parse_pressure(_read("/proc/pressure/cpu")) is not None,
        "versions": {
            "zoo": __version__,
            "python": platform.python_version(),
            "libc": " ".join(platform.libc_ver()),
        },
        "commit": _commit(),
    }


def describe_process() -> dict[str, Any]:
    """What a measuring process runs with, read from within it."""
    keys = (
        "OMP_WAIT_POLICY",
        "GOMP_SPINCOUNT",
        "OMP_PROC_BIND",
        "KMP_BLOCKTIME",
        "LD_PRELOAD",
        "ZOO_CPU_CAPABILITY",
        "ATEN_CPU_CAPABILITY",
        "ONEDNN_MAX_CPU_ISA",
        "MKL_ENABLE_INSTRUCTIONS",
        "ZOO_FALLBACK",
    )
    return {
        "affinity": usable_cpus(),
        "allocator": _allocator(),
        "environment": {
            key: value
            for key, value in os.environ.items()
            if key in keys or key.startswith(("MALLOC_", "GLIBC_TUNABLES"))
        },
    }


def describe_driver(gpu: str) -> dict[str, Any]:
    """Version of the NVIDIA driver, and clocks in MHz at this moment of a GPU, named by its UUID.

    What cannot be read is None.
    """
    found = {"driver": None, "clocks_mhz": None}
    return {**found, **parse_driver(_read("/proc/driver/nvidia/version")), **parse_smi(_smi(gpu))}


def parse_driver(text: str) -> dict[str, Any]:
    """The driver's version, of ``/proc/driver/nvidia/version``; nothing where that is empty."""
    match = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    return {"driver": match[1]} if match else {}


def parse_smi(text: str) -> dict[str, Any]:
    """The driver's version and the clocks, of nvidia-smi's answer to :data:`SMI_FIELDS`.

    Clocks that it cannot tell are None; of an empty answer nothing.
    """
    values = [value.strip() for value in text.split(",")]
    if len(values) != len(SMI_FIELDS):
        return {}
    driver, *numbers = values
    clocks = [int(number) if number.isdecimal() else None for number in numbers]
    names = ("multiprocessors", "memory", "most_multiprocessors", "most_memory")
    return {"driver": driver, "clocks_mhz": dict(zip(names, clocks, strict=True))}


def _smi(gpu: str) -> str:
    query = [f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--id={gpu}", *query], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _caches() -> dict[str, str]:
    """Sizes of the first processor's caches, e.g. ``{"L1 Data": "32K", "L3 Unified": "32M"}``."""
    folder = Path("/sys/devices/system/cpu/cpu0/cache")
    found = {}
    for index in sorted(folder.glob("index*")):
        level, kind, size = _words(index, "level", "type", "size")
        if size:
            found[f"L{level} {kind}"] = size
    return found


def _words(folder: Path, *names: str) -> list[str]:
    return [_read(str(folder / name)).strip() for name in names]


def _bytes(size: str) -> int:
    """Read a cache's size, such as ``32K``; 0 if there is none."""
    match = re.fullmatch(r"(\d+)([KM])", size)
    return int(match[1]) << {"K": 10, "M": 20}[match[2]] if match else 0


def _bracketed(text: str) -> str | None:
    match = re.search(r"\[(\w+)\]", text)
    return match[1] if match else None


def _allocator() -> str:
    loaded = _read("/proc/self/maps")
    for name in ("jemalloc", "tcmalloc", "mimalloc"):
        if name in loaded:
            return name
    tuned = any(os.environ.get(key) == value for key, value in _TUNED_MALLOC.items())
    return "system malloc, " + ("keeping freed memory" if tuned else "as set by the user")


def _commit() -> str | None:
    """Commit of the source tree that zoo is imported from, ``+`` if files differ from it."""
    package = Path(__file__).resolve().parent.parent

    def git(arguments: Iterable[str]) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=package, capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may lie within somebody else's repository.
    if git(["ls-files", "--error-unmatch", "_version.py"]) is None:
        return None
    commit = git(["rev-parse", "HEAD"])
    changed = git(["status", "--porcelain", "--untracked-files=no"])
    return commit and commit + ("+" if changed else "")
