"""Drives the contestants' processes: gate, rounds in turn, control; then memory and profiles."""

from __future__ import annotations

import math
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from step.cases import BUILTINS, ENGINES, TOLERANCE, Case
from zoo.benchmark.engines.remote import Remote
from zoo.benchmark.machine import Snapshot, disturbance
from zoo.benchmark.problem import LeftOut
from zoo.benchmark.timing import CONTROL, Plan, Timings, compare, enough, rounds_to_keep

HERE = Path(__file__).resolve().parents[1]
KERAS = HERE.parent / ".venv-keras" / "bin" / "python"

Say = Callable[[str], None]


class _Process(Remote):
    patience_s = 900  # compilers take their time

    def __init__(self, case: Case, file: IO[bytes], python: str = sys.executable, **request: Any):
        path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
        file.seek(0)  # the processes share the place in it
        super().__init__("step.process", [file.fileno()], environment, python)
        self.facts = self.ask(case=asdict(case), file=file.fileno(), **request)


class Contestant(_Process):
    """A contestant's process, which passed the gate.

    Attributes:
        facts: what it said at its start.
    """

    def __init__(self, name: str, case: Case, file: IO[bytes], losses: Sequence[float]) -> None:
        if name in ENGINES and not KERAS.exists():
            raise LeftOut("skipped", "there is no .venv-keras: make keras-env")
        python = str(KERAS) if name in ENGINES else sys.executable
        super().__init__(case, file, python, contestant=name)
        error = deviation(self.facts["losses"], losses)
        self.facts["loss_deviation"] = error
        if not error <= TOLERANCE:
            self.close()
            raise LeftOut("wrong", f"its losses are off by {error:.1e}", error)

    def seconds(self, steps: int) -> float:
        """Seconds of a step, over at least so many after an untimed one."""
        return float(self.ask(steps=steps)["seconds"])


def deviation(losses: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference; NaN if there is one among them."""
    differences = [abs(loss / wanted - 1) for loss, wanted in zip(losses, expected, strict=True)]
    return math.nan if any(map(math.isnan, differences)) else max(differences)


@contextmanager
def _made(case: Case) -> Iterator[tuple[IO[bytes], list[float]]]:
    """A file with images and weights, and the losses that they lead to."""
    with tempfile.TemporaryFile() as file:
        process = _Process(case, file, make=True)
        process.close()
        yield file, process.facts["losses"]


def race(case: Case, names: Sequence[str], plan: Plan, say: Say) -> dict[str, Any]:
    """Check and time contestants at one case, in turn.

    Returns:
        ``results``, ``not_timed`` and ``control`` as ``zoo bench`` has them, and ``aims``.
    """
    not_timed: list[dict[str, Any]] = []

    def leave_out(name: str, left: LeftOut) -> None:
        say(f"{case}: {name}: {left}")
        facts = {"status": left.status, "reason": left.reason, "error": left.error}
        not_timed.append({"candidate": name, **facts})

    with ExitStack() as ends:
        file, losses = ends.enter_context(_made(case))
        runs: dict[str, Contestant] = {}
        steps: dict[str, int] = {}
        seconds: dict[str, float] = {}

        def start(key: str, name: str) -> None:
            say(f"{case}: {name} starts")
            run = Contestant(name, case, file, losses)
            ends.callback(run.close)
            seconds[key] = run.seconds(2)
            steps[key] = max(2, math.ceil(plan.block_s / seconds[key]))
            seconds[key] = run.seconds(steps[key])
            steps[key] = max(2, math.ceil(plan.block_s / seconds[key]))
            runs[key] = run

        for name in names:
            try:
                start(name, name)
            except LeftOut as left:
                leave_out(name, left)
        if not runs:
            return {"aims": case.aims, "results": [], "not_timed": not_timed, "control": None}
        built_in = [name for name in runs if name in BUILTINS]
        twin = min(built_in or runs, key=seconds.__getitem__)
        try:
            start(CONTROL, twin)
        except LeftOut as left:
            sys.exit(f"{twin} could not be started once more: {left}")
        timings = _in_turn(runs, steps, plan, lambda text: say(f"{case}: {text}"))
        for name, left in timings.broken.items():
            leave_out(name, left)
        if CONTROL in timings.broken:
            sys.exit(f"{twin} broke down: {timings.broken[CONTROL]}")
        entrants = [name for name in names if name in timings.samples]
        rows, control = compare(
            timings,
            entrants,
            [name for name in entrants if name in BUILTINS],
            [name for name in entrants if name in ENGINES],
            twin if twin in entrants else None,
        )
    results = [
        {
            "images_per_s": case.batch / rows[name]["median_ms"] * 1e3,
            **rows[name],
            "steps_per_block": steps[name],
            **runs[name].facts,
        }
        for name in entrants
    ]
    return {"aims": case.aims, "results": results, "not_timed": not_timed, "control": control}


def _in_turn(
    runs: Mapping[str, Contestant], steps: Mapping[str, int], plan: Plan, say: Say
) -> Timings:
    """Rounds in random order, until enough were undisturbed; seconds are those of a step.

    TensorFlow has more threads than there are processors: that some of them wait says nothing of
    the machine, and while it runs only stolen time counts.
    """
    order, shuffle = list(runs), random.Random(plan.seed).shuffle
    rounds: list[dict[str, float]] = []
    disturbances: list[float] = []
    broken: dict[str, LeftOut] = {}
    while not enough(disturbances, plan):
        shuffle(order)
        taken: dict[str, float] = {}
        worst = 0.0
        for name in order:
            before = Snapshot.take()
            if name in ENGINES:
                before = replace(before, pressure_us=None)
            try:
                taken[name] = round(runs[name].seconds(steps[name]), 9)
            except LeftOut as left:
                broken[name] = left
            worst = max(worst, disturbance(before, Snapshot.take()))
        order = [name for name in order if name not in broken]
        rounds.append(taken)
        disturbances.append(worst)
        speeds = ", ".join(f"{name} {1e3 * taken[name]:.2f}" for name in runs if name in taken)
        say(f"round {len(rounds)}: {speeds} ms, disturbance {worst:.1f}")
    kept = rounds_to_keep(disturbances, plan.rounds)
    return Timings(
        {name: [rounds[number][name] for number in kept] for name in order},
        kept=kept,
        thrown_away=len(rounds) - len(kept),
        disturbed_kept=sum(disturbances[number] > 1 for number in kept),
        broken=broken,
    )


def look(case: Case, names: Sequence[str], say: Say, **request: int) -> dict[str, Any]:
    """Start contestants one after the other and ask each the same; a reason where one cannot."""
    answers: dict[str, Any] = {}
    with _made(case) as (file, losses):
        for name in names:
            say(f"{case}: {name}: {next(iter(request))}")
            try:
                contestant = Contestant(name, case, file, losses)
                answers[name] = {**contestant.facts, **contestant.ask(**request)}
                contestant.close()
            except LeftOut as left:
                answers[name] = {"status": left.status, "reason": left.reason}
    return answers
