"""The method: gate first, candidates interleaved, a control, disturbed rounds thrown away."""

from __future__ import annotations

import gc
import itertools
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from zoo.benchmark.candidates import Candidate, Run, SelfTimed
from zoo.benchmark.machine import Snapshot, disturbance
from zoo.benchmark.problem import LeftOut, Problem
from zoo.benchmark.stats import ratio_interval, summarize

CONTROL = "control"
"""Name of the second copy of a builtin in the A/A control."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        rounds: undisturbed rounds wanted; each has one block of every candidate.
        block_s: least seconds of a block, which repeats its candidate so often.
        patience: rounds measured at most, in multiples of ``rounds``.
        seed: of the order within rounds.
        copies: of the weight, which the calls of a candidate use in turn. One weight stays in
            the caches, as none does in a network.
        limit_s: seconds after which no further round begins, once there are five.
    """

    rounds: int = 20
    block_s: float = 0.005
    patience: int = 3
    seed: int = 0
    copies: int = 1
    limit_s: float = math.inf


@dataclass(slots=True)
class Timings:
    """Seconds per call by candidate, one per kept round; which those were, how many disturbed.

    ``broken`` holds the engines that did not reach the end, which have no samples.
    """

    samples: dict[str, list[float]]
    kept: list[int]
    thrown_away: int
    disturbed_kept: int
    broken: dict[str, LeftOut]


@dataclass(slots=True)
class CaseResult:
    """What came out for a case: rows of results, who was not timed and why, the control."""

    results: list[dict[str, Any]] = field(default_factory=list)
    not_timed: list[dict[str, Any]] = field(default_factory=list)
    control: dict[str, Any] | None = None


def build(candidate: Candidate, problem: Problem, copies: int) -> Run:
    """Build a candidate; with several copies of the weight, calls go through them in turn."""
    if copies == 1:
        return candidate.build(problem)
    if candidate.rotate:
        return candidate.rotate(problem, copies)
    copied = [replace(problem, weight=problem.weight.clone()) for _ in range(copies)]
    turns = itertools.cycle([candidate.build(problem) for problem in copied])
    return lambda: next(turns)()


def block_seconds(run: Run, calls: int) -> float:
    """Seconds per call over a block, after a call that brings data and code into the caches."""
    if isinstance(run, SelfTimed):
        return run.block(calls)
    run()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


class Clock(Protocol):
    """Times calls on the device that computes them."""

    def block(self, run: Run, calls: int) -> float:
        """Seconds per call over a block of calls, after untimed ones."""

    def wait(self) -> None:
        """Return when all is done that calls have begun; raise what went wrong in it."""


class WallClock:
    """The processor's own: calls have ended when they return."""

    def block(self, run: Run, calls: int) -> float:
        """See :func:`block_seconds`."""
        return block_seconds(run, calls)

    def wait(self) -> None:
        """Nothing is left to be done."""


WALL = WallClock()


def calibrate(run: Run, block_s: float, clock: Clock = WALL) -> tuple[int, float]:
    """Return how many calls fill a block, and the seconds that one took."""
    calls = 1
    while True:
        seconds = clock.block(run, calls)
        if seconds * calls >= block_s:
            return calls, seconds
        calls = min(calls * 10, math.ceil(1.1 * block_s / max(seconds, 1e-9)))


def enough(disturbances: Sequence[float], plan: Plan) -> bool:
    """Whether so many rounds were undisturbed (1 at most), or patience has ended."""
    clean = sum(disturbed <= 1 for disturbed in disturbances)
    return clean >= plan.rounds or len(disturbances) >= plan.rounds * plan.patience


def rounds_to_keep(disturbances: Sequence[float], wanted: int) -> list[int]:
    """Return the numbers of the rounds that count: undisturbed ones, then the least disturbed."""
    by_disturbance = sorted(range(len(disturbances)), key=lambda i: max(1.0, disturbances[i]))
    return sorted(by_disturbance[:wanted])


def time_interleaved(
    runs: Mapping[str, Run],
    calls: Mapping[str, int],
    plan: Plan,
    watch: Callable[[Mapping[str, float]], None] = lambda seconds: None,
    clock: Clock = WALL,
) -> Timings:
    """Time rounds A B C, B A C, ... in random order, until enough of them were undisturbed.

    When patience ends first, the least disturbed of the others make up the number. ``watch`` is
    told the seconds per call of each round.
    """
    order, shuffle = list(runs), random.Random(plan.seed).shuffle
    rounds: list[dict[str, float]] = []
    disturbances: list[float] = []
    broken: dict[str, LeftOut] = {}
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = time.perf_counter() + plan.limit_s
        while not enough(disturbances, plan):
            if len(rounds) >= 5 and time.perf_counter() > end:
                break
            shuffle(order)
            seconds = {}
            before = Snapshot.take()
            for name in order:
                try:
                    # In whole nanoseconds, so that what is written out is what is computed with.
                    seconds[name] = round(clock.block(runs[name], calls[name]), 9)
                except LeftOut as error:
                    broken[name] = error
            order = [name for name in order if name not in broken]
            disturbances.append(disturbance(before, Snapshot.take()))
            rounds.append(seconds)
            watch(seconds)
    finally:
        if collecting:
            gc.enable()
    kept = rounds_to_keep(disturbances, plan.rounds)
    return Timings(
        {name: [rounds[number][name] for number in kept] for name in order},
        kept=kept,
        thrown_away=len(rounds) - len(kept),
        disturbed_kept=sum(disturbances[number] > 1 for number in kept),
        broken=broken,
    )


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@dataclass(frozen=True, slots=True)
class _Entrant:
    """A candidate that passed the gate: how many calls fill a block, seconds of one."""

    candidate: Candidate
    run: Run
    calls: int
    seconds: float
    facts: dict[str, float]


def _enter(
    candidate: Candidate, problem: Problem, plan: Plan, ends: ExitStack, clock: Clock
) -> _Entrant:
    """Build, check and calibrate a candidate; raise LeftOut if it cannot take part."""
    try:
        reason = candidate.declines(problem)
        if plan.copies > 1 and not (candidate.rotates or candidate.rotate):
            reason = reason or "it would need to be made anew for each copy of the weight"
        if reason:
            raise LeftOut("skipped", reason)
        start = time.perf_counter()
        run = build(candidate, problem, plan.copies)
        if isinstance(run, SelfTimed):
            ends.callback(run.close)
        clock.wait()
        built = time.perf_counter()
        output = run()
        clock.wait()
        first = time.perf_counter()
        error = problem.error_of(output)
        if not problem.passes(error):
            raise LeftOut("wrong", f"its error is {error:.1e}", error)
        backward_error = problem.backward_error_of(output)
        calls, seconds = calibrate(run, plan.block_s, clock)
    except LeftOut:
        raise
    except Exception as exception:
        # A device on which a kernel failed fails from then on: that ends this process, and the
        # runner goes on in another, without the candidate.
        clock.wait()
        raise LeftOut("failed", _reason(exception)) from exception
    setup_ms, first_call_ms = (built - start) * 1e3, (first - built) * 1e3
    facts = {
        "error": error,
        "backward_error": backward_error,
        "setup_ms": setup_ms,
        "first_call_ms": first_call_ms,
    }
    return _Entrant(candidate, run, calls, seconds, facts)


def measure_case(
    problem: Problem,
    candidates: Sequence[Candidate],
    plan: Plan,
    progress: Callable[[str], None] = lambda name: None,
    clock: Clock = WALL,
) -> CaseResult:
    """Build, check and time the candidates on one problem.

    A candidate that declines, raises or is wrong is listed with its reason and not timed.
    ``progress`` is told the name of each candidate before it first runs.
    """
    outcome = CaseResult()
    key = {"op": problem.case.op, "case": str(problem.case)}

    def leave_out(name: str, left: LeftOut) -> None:
        facts = {"status": left.status, "reason": left.reason, "error": left.error}
        outcome.not_timed.append({**key, "candidate": name, **facts})

    with ExitStack() as ends:
        ready: dict[str, _Entrant] = {}
        for candidate in candidates:
            progress(candidate.name)
            try:
                ready[candidate.name] = _enter(candidate, problem, plan, ends, clock)
            except LeftOut as left:
                leave_out(candidate.name, left)
        progress(CONTROL)
        builtins = [name for name in ready if ready[name].candidate.builtin]
        local = [name for name in ready if not ready[name].candidate.engine]
        twin = min(builtins or local, key=lambda name: ready[name].seconds, default=None)
        runs = {name: entrant.run for name, entrant in ready.items()}
        calls = {name: entrant.calls for name, entrant in ready.items()}
        if twin:
            runs[CONTROL] = build(ready[twin].candidate, problem, plan.copies)
            calls[CONTROL], _ = calibrate(runs[CONTROL], plan.block_s, clock)
        if not runs:
            return outcome
        timings = time_interleaved(runs, calls, plan, clock=clock)
        for name in list(ready):
            # Once more after the race: a kernel must not have written where it should not.
            try:
                if name in timings.broken:
                    raise timings.broken[name]
                error = problem.error_of(runs[name]())
                if not problem.passes(error):
                    reason = f"its error is {error:.1e} after many calls"
                    raise LeftOut("wrong", reason, error)
            except LeftOut as left:
                leave_out(name, left)
                del ready[name]

    builtins = [name for name in ready if ready[name].candidate.builtin]
    engines = [name for name in ready if ready[name].candidate.engine]
    rows, control = compare(timings, list(ready), builtins, engines, twin)
    if control:
        outcome.control = {**key, **control}
    for name, entrant in ready.items():
        outcome.results.append(
            {
                **key,
                **rows[name],
                "gflops": problem.case.flops / rows[name]["median_ms"] / 1e6,
                **entrant.facts,
                "implementation": entrant.candidate.explain(problem),
                "calls_per_block": entrant.calls,
            }
        )
    return outcome


def compare(
    timings: Timings,
    names: Sequence[str],
    builtins: Sequence[str],
    engines: Sequence[str],
    twin: str | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Hold candidates against the best builtin and the best engine.

    Args:
        timings: of these and of ``CONTROL``, which is ``twin`` once more.
        names: the candidates that count, ``builtins`` and ``engines`` among them.

    Returns:
        For each name its times in ms, ratios and verdict, and the control with its resolution.
    """
    samples, resolution, control = timings.samples, math.inf, None
    if twin:
        low, high = ratio_interval(samples[twin], samples[CONTROL])
        resolution = max(high, 1 / low)
        control = {
            "candidate": twin,
            "interval": [low, high],
            "resolution": resolution,
            "rounds": len(timings.kept),
            "thrown_away": timings.thrown_away,
            "disturbed_kept": timings.disturbed_kept,
        }
    medians = {name: summarize(samples[name]).median for name in names}
    best = min(builtins, key=medians.__getitem__, default=None)
    rival = min(engines, key=medians.__getitem__, default=None)
    rows = {}
    for name in names:
        summary = summarize(samples[name])
        rows[name] = {
            "candidate": name,
            "median_ms": summary.median * 1e3,
            "min_ms": summary.minimum * 1e3,
            "iqr_ms": summary.iqr * 1e3,
            **_against(samples[best] if best else None, samples[name], resolution),
            "best_builtin": best,
            "builtin": name in builtins,
            "engine": name in engines,
            "ratio_to_best_rival": medians[rival] / medians[name] if rival else None,
            "best_rival": rival,
            "samples_ms": [round(seconds * 1e3, 6) for seconds in samples[name]],
        }
    return rows, control


def _against(
    best: Sequence[float] | None, mine: Sequence[float], resolution: float
) -> dict[str, Any]:
    if best is None:
        return {"ratio_to_best_builtin": None, "ratio_interval": None, "verdict": None}
    low, high = (1.0, 1.0) if best is mine else ratio_interval(best, mine)
    return {
        "ratio_to_best_builtin": summarize(best).median / summarize(mine).median,
        "ratio_interval": [low, high],
        "verdict": verdict(low, high, resolution),
    }


def verdict(low: float, high: float, resolution: float) -> str:
    """``faster`` or ``slower`` where the whole interval of a ratio lies beyond the resolution."""
    if low > resolution:
        return "faster"
    return "slower" if high < 1 / resolution else "same"
