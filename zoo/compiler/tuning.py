"""``tune="measure"``: which kernels are fastest for each convolution, inside its network."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, get_args

from torch import Tensor

from zoo.compiler.capture import Captured
from zoo.compiler.choices import Always, Choice, Measured
from zoo.compiler.stages import Stage, stages
from zoo.ops._library import extension

# What another choice has to gain on the fixed list's, lest noise decide.
_MARGIN = 0.03
_SECONDS = 1.0


def measure(captured: Captured, leaves: Sequence[Any], precision: str, choices: Measured) -> None:
    """Time the kernels for the convolutions of this network.

    The whole network runs once with each choice for all its convolutions, in turn, several times:
    each finds the values where its predecessor leaves them, and its weights as far away as they
    are in use. A convolution's time is the least of its runs, with the steps that a choice needs
    beside it; where a shape occurs again, the least of all. If the network as a whole is not faster
    with what was chosen, the fixed list's choices stay.
    """
    contenders = {
        choice: stages(captured, leaves, precision, extension.PackedWeights(), Always(choice))
        for choice in get_args(Choice)
    }
    least: dict[Choice, list[float]] = {}
    end = time.perf_counter() + _SECONDS * len(contenders)
    rounds = 0
    while rounds < 5 or (rounds < 50 and time.perf_counter() < end):
        for choice, each in contenders.items():
            steps = _run(each, leaves)
            least[choice] = list(map(min, steps, least.get(choice, steps)))
        rounds += 1
    # Where a choice does not apply the same kernels run, and only noise tells them apart.
    known: dict[str, dict[tuple[str, ...], Choice]] = {}
    times: defaultdict[str, dict[Choice, float]] = defaultdict(dict)
    for choice, each in contenders.items():  # the fixed list's first
        for case, (kernels, seconds) in _by_case(each, least[choice]).items():
            if known.setdefault(case, {}).setdefault(kernels, choice) == choice:
                times[case][choice] = seconds
    chosen = {case: _fastest(found) for case, found in times.items()}
    choices.remember(chosen)
    if any(choice != "zoo" for choice in chosen.values()):
        # Steps are timed one by one; what counts is the network.
        tuned = stages(captured, leaves, precision, extension.PackedWeights(), choices)
        if _quicker(contenders["zoo"], tuned, leaves):
            choices.remember(dict.fromkeys(chosen, "zoo"))


def _quicker(one: tuple[Stage, ...], other: tuple[Stage, ...], leaves: Sequence[Any]) -> bool:
    """Whether the one takes less time than the other, the least of runs in turn."""
    best = [float("inf")] * 2
    end = time.perf_counter() + _SECONDS
    rounds = 0
    while rounds < 5 or (rounds < 50 and time.perf_counter() < end):
        for index, found in enumerate((one, other)):
            start = time.perf_counter()
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            for stage in found:
                tensors = stage.run(tensors)
            best[index] = min(best[index], time.perf_counter() - start)
        rounds += 1
    return best[0] < best[1]


def _run(found: tuple[Stage, ...], leaves: Sequence[Any]) -> list[float]:
    """The seconds of each step."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    seconds: list[float] = []
    for stage in found:
        tensors, some = stage.run_timed(tensors)
        seconds += some
    return seconds


def _by_case(
    found: tuple[Stage, ...], seconds: Sequence[float]
) -> dict[str, tuple[tuple[str, ...], float]]:
    """Of each kind of convolution the kernels, and the least time."""
    best: dict[str, tuple[tuple[str, ...], float]] = {}
    given = iter(seconds)
    for stage in found:
        kernels: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
        times: defaultdict[str, float] = defaultdict(float)
        for step, kernel in zip(stage.lowering.steps, stage.plan.kernels, strict=True):
            kernels[step.node] += (kernel,)
            times[step.node] += next(given)
        for node, case in stage.lowering.cases.items():
            before = best.get(case, ((), float("inf")))[1]
            best[case] = kernels[node], min(before, times[node])
    return best


def _fastest(times: dict[Choice, float]) -> Choice:
    if "zoo" not in times:
        return "zoo"  # only behind another choice do its inputs lie so: there is no comparison
    quickest = min(times, key=times.__getitem__)
    return quickest if times[quickest] < (1 - _MARGIN) * times["zoo"] else "zoo"
