"""What a convolution's implementations should take on this machine, and what the choice takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo import ops
from zoo.benchmark import peak
from zoo.benchmark.problem import Problem, in_memory
from zoo.benchmark.shapes import Case
from zoo.benchmark.timing import block_seconds, calibrate
from zoo.ops import Activation, Precision, _introspection
from zoo.ops._introspection import Choice

_BLOCK_S, _ROUNDS, _PATIENCE_S = 0.01, 9, 10.0


class _Ends(TypedDict):
    activation: Activation
    precision: Precision


def estimate(choices: Sequence[Choice], dtype: torch.dtype) -> list[float | None]:
    """Milliseconds on one thread: the work that each choice expects, at the measured rate.

    None where nothing is known. The cost model is one of arithmetic, with an allowance for reading
    and packing weights: it compares implementations, and shows how far the chosen one is from what
    the processor can do.
    """
    multiply_adds = peak.best_rate(_introspection.peak_fma, threads=1) / 2
    rate = multiply_adds * torch.float32.itemsize / dtype.itemsize
    return [None if choice["work"] is None else choice["work"] / rate * 1e3 for choice in choices]


def measure(
    case: Case,
    chosen: str,
    dtype: torch.dtype,
    *,
    activation: Activation,
    precision: Precision,
    packed: bool,
    channels_last: bool,
) -> dict[str, float]:
    """Milliseconds on one thread of the chosen implementation, and of aten, PyTorch's own conv2d.

    The best of nine interleaved blocks, or of as many as begin within ten seconds, on random
    tensors of the case.

    Raises:
        ZooError: they do not fit into memory.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(), in_memory(case):
            problem = Problem.make(case, dtype, activation)
            runs = _runs(problem, chosen, activation, precision, packed, channels_last)
            calls = {name: calibrate(run, _BLOCK_S)[0] for name, run in runs.items()}
            best = dict.fromkeys(runs, math.inf)
            end = time.perf_counter() + _PATIENCE_S
            for done in range(_ROUNDS):
                if done > 0 and time.perf_counter() > end:
                    break
                for name, run in runs.items():
                    best[name] = min(best[name], block_seconds(run, calls[name]) * 1e3)
    finally:
        torch.set_num_threads(threads)
    return best


def _runs(
    problem: Problem,
    chosen: str,
    activation: Activation,
    precision: Precision,
    packed: bool,
    channels_last: bool,
) -> dict[str, Callable[[], Tensor]]:
    case, bias = problem.case, problem.bias
    format = torch.channels_last if channels_last else torch.contiguous_format
    input = problem.input.contiguous(memory_format=format)
    weight = problem.weight.contiguous(memory_format=format)
    window = (case.stride, case.padding, 1, case.groups)
    ends: _Ends = {"activation": activation, "precision": precision}
    runs = {"aten": lambda: problem.activate(F.conv2d(input, weight, bias, *window))}
    if packed and chosen != "aten":
        layout = ops.conv2d_prepack(
            weight, case.groups, *window[:3], input_size=tuple(input.shape), precision=precision
        )
        runs[chosen] = lambda: ops.conv2d_packed(
            input, layout, case.weight_shape, bias, *window, **ends
        )
    elif chosen != "aten":
        runs[chosen] = lambda: ops.conv2d(input, weight, bias, *window, **ends)
    return runs
