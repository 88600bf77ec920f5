"""A step's profile: which ops it has, and how long each takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch

PHASES = ("forward", "backward", "optimizer")
WARM_UP = 5

_SAME = {
    "convolution": "conv2d", "conv2d_max_pool2": "conv2d_pool",
    "max_pool2d_with_indices": "max_pool2d", "native_batch_norm": "batch_norm",
    "addmm": "linear", "t": "linear", "nll_loss": "cross_entropy_loss",
    "log_softmax": "cross_entropy_loss", "unsafe_view": "flatten", "clone": "flatten",
    "view": "flatten", "adaptive_avg_pool2d": "avg_pool2d", "mean": "avg_pool2d",
    "ones_like": "cross_entropy_loss", "relu_": "relu", "add_": "add",
}  # fmt: skip
"""A name of the backward, or of a variant, and that of the op which it belongs to."""


class Bar(NamedTuple):
    """An op of a step: its kind, its phase, when it began and how long it took, in ms."""

    kind: str
    phase: str
    start_ms: float
    ms: float


def kind_of(event: str) -> str:
    """The kind of op of a profiler's event, the same for forward and backward."""
    name = event.removeprefix("autograd::engine::evaluate_function: ").rpartition("::")[2]
    name = re.sub(r"(Backward\d*|Function>?)$", "", name)
    if "AccumulateGrad" in name:
        return "accumulate gradients"
    if "#" in name:  # Optimizer.step#Adam.step
        return name.rpartition("#")[2].lower().replace(".step", "").replace(".", " ")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("2D", "2d")).lower()
    return _SAME.get(name, name)


def profile(steps: Sequence[Callable[[], object]]) -> dict[str, Any]:
    """Look into steps which mark their phases by ``record_function``.

    Returns:
        ``ops``: for each kind the ms of a step in each phase, medians over the steps;
        ``step_ms``: of each step; ``timeline``: the bars of the step that took the median.
    """
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu]) as profiler:
        steps[0]()  # the first one under a profiler is slower
        for step in steps:
            step()
    marks = [event for event in profiler.events() if event.name in PHASES]
    marks.sort(key=lambda event: event.time_range.start)
    each = len(PHASES)
    bars = [_bars(marks[first : first + each]) for first in range(each, len(marks), each)]
    lengths = [max(bar.start_ms + bar.ms for bar in step) for step in bars]
    middle = sorted(range(len(bars)), key=lengths.__getitem__)[len(bars) // 2]
    return {"ops": by_kind(bars), "step_ms": lengths, "timeline": bars[middle]}


def by_kind(steps: Sequence[Sequence[Bar]]) -> dict[str, dict[str, float]]:
    """ms of each kind of op in each phase, medians over the steps; the slowest kind first."""
    sums: list[dict[tuple[str, str], float]] = [{} for _ in steps]
    for held, bars in zip(sums, steps, strict=True):
        for bar in bars:
            held[bar.kind, bar.phase] = held.get((bar.kind, bar.phase), 0.0) + bar.ms
    found: dict[str, dict[str, float]] = {}
    for kind, phase in dict.fromkeys(key for held in sums for key in held):
        took = median(held.get((kind, phase), 0.0) for held in sums)
        found.setdefault(kind, {})[phase] = round(took, 4)
    return dict(sorted(found.items(), key=lambda item: -sum(item[1].values())))


def _bars(phases: Sequence[Any]) -> list[Bar]:
    """The outermost ops of the phases of one step."""
    start = phases[0].time_range.start
    return [
        Bar(
            kind_of(event.name),
            phase.name,
            round((event.time_range.start - start) / 1e3, 4),
            round(event.time_range.elapsed_us() / 1e3, 4),
        )
        for phase in phases
        for event in sorted(phase.cpu_children, key=lambda child: child.time_range.start)
    ]
