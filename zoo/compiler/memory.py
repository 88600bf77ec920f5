"""Where the values of a plan lie in one block of memory: those alive at once do not meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and what kernels ask for


@dataclass(frozen=True)
class Lifetime:
    """``size`` bytes that are needed from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """An offset for each, and the bytes that all need together.

    Greedy by size (Pisarchyk and Lee, "Efficient memory management for deep neural net inference",
    2020): the largest first, each in the tightest gap between those that live at the same time.
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    for i in sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].size, i)):
        size, mine = _rounded(lifetimes[i].size), lifetimes[i]
        neighbours = sorted(
            (offsets[j], offsets[j] + _rounded(lifetimes[j].size))
            for j in placed
            if lifetimes[j].first <= mine.last and mine.first <= lifetimes[j].last
        )
        best, best_gap, end = None, 0, 0
        for start, stop in neighbours:
            gap = start - end
            if gap >= size and (best is None or gap < best_gap):
                best, best_gap = end, gap
            end = max(end, stop)
        offsets[i] = end if best is None else best
        placed.append(i)
    total = max((offsets[i] + _rounded(lifetimes[i].size) for i in placed), default=0)
    return offsets, total


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
