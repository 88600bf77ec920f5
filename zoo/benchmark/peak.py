"""What the machine can do at most, measured, and what that allows a case: the roofline.

After Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures" (CACM 2009), with a roof for each cache.
"""

from __future__ import annotations

import math
import time
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass

import torch

from zoo.benchmark.machine import (
    Snapshot,
    cache_capacities,
    disturbance,
    last_cache_bytes,
    usable_cpus,
)
from zoo.benchmark.shapes import WEIGHTED_OPS, Case
from zoo.ops import _introspection

MEMORY = "DRAM"
"""Name of the level beyond the caches."""

_FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Limits of float32 arithmetic on a process's threads, all together.

    Attributes:
        fma_gflops: GFLOP/s of multiply-adds in registers, by the instruction set in use.
        read_gbps: GB/s of reading, by level: ``L1``, ``L2``, ..., ``DRAM``.
        capacity_bytes: size of each cache, smallest first.
        disturbance: of the machine meanwhile, as :func:`zoo.benchmark.machine.disturbance` has it.
    """

    fma_gflops: float
    read_gbps: dict[str, float]
    capacity_bytes: dict[str, int]
    disturbance: float = 0.0

    def attainable_gflops(self, case: Case, copies: int = 1) -> float:
        """GFLOP/s at which a case does its arithmetic and reads and writes all tensors once.

        A tensor comes from the smallest level that holds all that the calls use: among it
        ``copies`` of the weight, one of them in each call. The arithmetic of pools is free.
        """
        inputs = case.batch * case.channels * case.height * case.width
        maps = _FLOAT * (inputs + math.prod(case.output_shape))
        weight = _FLOAT * math.prod(case.weight_shape) if case.op in WEIGHTED_OPS else 0
        seconds = self.moving(maps, maps + weight) + self.moving(weight, maps + copies * weight)
        by_memory = case.flops / seconds / 1e9
        return min(self.fma_gflops, by_memory) if case.op in WEIGHTED_OPS else by_memory

    def least_seconds(self, flops: int, values: int, weights: int, all_weights: int) -> float:
        """What a layer of a network takes at least, if it moves all once: its arithmetic or this.

        Its values come from the smallest level that holds them (bytes), its weights from the one
        that holds the whole network's, as each run goes through them all.
        """
        by_memory = self.moving(values, values) + self.moving(weights, all_weights)
        return max(flops / (self.fma_gflops * 1e9), by_memory)

    def moving(self, size: int, held: int) -> float:
        """Seconds in which ``size`` bytes are read from the level that holds ``held``."""
        fitting = [level for level, room in self.capacity_bytes.items() if held <= room]
        return size / (self.read_gbps[(*fitting, MEMORY)[0]] * 1e9)


def measure(threads: int) -> Ceilings:
    """Measure this process's ceilings, on so many of PyTorch's threads; takes about a second."""
    capacities = cache_capacities(usable_cpus())
    before = Snapshot.take()
    fma = best_rate(_introspection.peak_fma, threads) / 1e9
    read = {
        level: read_rate(size, threads) / 1e9 for level, size in buffer_sizes(capacities).items()
    }
    return Ceilings(fma, read, capacities, disturbance(before, Snapshot.take()))


def read_rate(size: int, threads: int) -> float:
    """Bytes a second of reading a buffer of ``size`` bytes, each thread its part of it."""
    share = size // threads // _FLOAT
    data = torch.empty(threads, share).fill_(0)  # written, so that each page has memory

    def read(passes: int, threads: int) -> int:
        _introspection.peak_read(data[:threads], passes, threads)
        return passes * data[:threads].nbytes

    return best_rate(read, threads)


def buffer_sizes(capacities: dict[str, int]) -> dict[str, int]:
    """Bytes to read for each level, all threads together.

    Half of a cache, for others use it too; of the last one, which neighbours may share, only a
    few times what the one before holds. For memory four times the last.
    """
    sizes = {level: capacity // 2 for level, capacity in capacities.items()}
    levels = list(capacities)
    if len(levels) > 1:
        sizes[levels[-1]] = min(sizes[levels[-1]], 4 * capacities[levels[-2]])
    sizes[MEMORY] = 4 * max([*capacities.values(), last_cache_bytes()])
    return sizes


def best_rate(
    run: Callable[[int, int], int],
    threads: int,
    block_s: float = 0.001,
    blocks: int = 50,
    patience_s: float = 2.0,
) -> float:
    """Work a second in the quickest of many blocks; ``run(repeats, threads)`` returns its work.

    A ceiling is what undisturbed blocks reach, so the best counts, and not the median; and so they
    are short, or something else runs in each. While the machine is busy, or no three agree within
    3 per cent, more are run until patience ends.
    """
    # Alone, and several times: what waits for a processor takes long, and does next to nothing.
    repeats = 1
    while any(_timed(run, repeats, 1)[0] < block_s for _ in range(5)):
        repeats *= 2
    rates: list[float] = []
    before = now = Snapshot.take()
    while len(rates) < blocks or (
        now.seconds - before.seconds < patience_s
        and (disturbance(before, now) > 1 or rates[-3] < 0.97 * rates[-1])
    ):
        seconds, work = _timed(run, repeats, threads)
        insort(rates, work / seconds)
        now = Snapshot.take()
    return rates[-1]


def _timed(run: Callable[[int, int], int], repeats: int, threads: int) -> tuple[float, int]:
    start = time.perf_counter()
    work = run(repeats, threads)
    return time.perf_counter() - start, work
