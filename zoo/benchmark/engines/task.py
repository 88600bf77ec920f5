"""What an engine is asked to do, and what its loader returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.benchmark.shapes import CONV_OPS, POOLS, Case

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Task:
    """A case with its data, as in ``zoo.benchmark.problem.Problem`` but of numpy's arrays.

    Attributes:
        case: what to compute. activation: after a convolution. threads: how many to use.
        input: (N, C, H, W). weight: (O, C / groups, K, K) and bias: (O,); empty for pools.
    """

    case: Case
    activation: str
    threads: int
    input: Array
    weight: Array
    bias: Array

    @property
    def convolves(self) -> bool:
        """Whether there is a convolution, with a weight, a bias and an activation."""
        return self.case.op in CONV_OPS

    @property
    def pool(self) -> tuple[str, int, int, int] | None:
        """Kind ("max" or "avg"), kernel, stride and padding of the pool, if there is one."""
        case = self.case
        if not self.convolves:
            return case.op[:3], case.kernel, case.stride, case.padding
        return POOLS[case.pool] if case.pool else None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A compiled task.

    Attributes:
        run: computes it once; this is what is timed.
        read: makes the (N, C, H, W) array of what ``run`` returned.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Array]
