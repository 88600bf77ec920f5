"""Drives the candidates' processes through one network: gate, rounds in turn, control, report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import torch

from zoo.benchmark.engines.remote import Remote
from zoo.benchmark.machine import worker_environment
from zoo.benchmark.networks.candidates import Candidate
from zoo.benchmark.problem import TOLERANCES, LeftOut
from zoo.benchmark.stats import summarize
from zoo.benchmark.timing import CONTROL, CaseResult, Plan, calibrate, compare, time_interleaved
from zoo.errors import ZooError

TOLERANCE = TOLERANCES[torch.float32]  # which zoo.optimize holds networks to as well


@dataclass(frozen=True, slots=True)
class Job:
    """What to measure.

    Attributes:
        model: its name. batch: images at once. image_size: their side; None for the model's own.
        threads: how many each candidate has.
        photo: path of an image file to classify, with pretrained weights; otherwise all is random.
    """

    model: str
    batch: int
    image_size: int | None
    threads: int
    photo: str | None = None

    def __str__(self) -> str:
        return f"{self.model}, batch {self.batch}, {self.threads} thread" + "s" * (self.threads > 1)


class _Process(Remote):
    """A process with a network; starting it prepares and checks it."""

    patience_s = 900  # compilers take their time

    def __init__(self, job: Job, file: IO[bytes], **request: Any) -> None:
        super().__init__("zoo.benchmark.networks.process", [file.fileno()], worker_environment())
        self.facts = self.ask(threads=job.threads, file=file.fileno(), **request)


class NetworkRun(_Process):
    """A candidate with a network, which times its own calls.

    Attributes:
        facts: of its preparation.
        blocks: what each block's answer was: seconds of each call, and of one with cold caches.
        top: (class, probability) of the last output that was checked, the best five.
    """

    def __init__(self, candidate: Candidate, job: Job, file: IO[bytes], first_cpu: int = 0) -> None:
        request = {"target": candidate.target, "model": job.model, "first_cpu": first_cpu}
        super().__init__(job, file, **request)
        self.blocks: list[dict[str, Any]] = []
        self.top: list[tuple[int, float]] = []

    def __call__(self) -> Any:
        """Compute once and return how far the output is off; ``top`` are its best classes."""
        answer = self.ask(check=True)
        self.top = answer["top"]
        return answer["deviation"]

    def block(self, calls: int) -> float:
        """Mean seconds per call."""
        answer = self.ask(calls=calls, cold=True)
        self.blocks.append(answer)
        return float(np.mean(answer["seconds"]))


class SideBySide:
    """A candidate in several processes at once, each with one thread and a processor of its own.

    It has what :class:`NetworkRun` has; of its facts times are the longest, memory is the sum.
    """

    def __init__(self, candidate: Candidate, job: Job, file: IO[bytes]) -> None:
        alone = replace(job, threads=1)
        with ExitStack() as ends:
            self._runs: list[NetworkRun] = []
            for cpu in range(candidate.processes):
                self._runs.append(NetworkRun(candidate, alone, file, cpu))
                ends.callback(self._runs[-1].close)
            self._ends = ends.pop_all()
        self.facts = {
            key: (sum if key.endswith("_mb") else max)(run.facts[key] for run in self._runs)
            for key in self._runs[0].facts
        }
        self.blocks: list[dict[str, Any]] = []
        self.top: list[tuple[int, float]] = []

    def __call__(self) -> Any:
        """Compute once and return how far the worst output is off."""
        worst = max(run() for run in self._runs)
        self.top = self._runs[0].top
        return worst

    def block(self, calls: int) -> float:
        """Seconds per batch: those of the slowest process, over the calls of all."""
        for run in self._runs:
            run.send(calls=calls, cold=False)
        seconds = [run.receive()["seconds"] for run in self._runs]
        self.blocks.append({"seconds": [each for one in seconds for each in one], "cold": None})
        return float(max(map(sum, seconds))) / (calls * len(self._runs))

    def close(self) -> None:
        """End the processes."""
        self._ends.close()


def measure(
    job: Job,
    candidates: Sequence[Candidate],
    plan: Plan,
    progress: Callable[[str], None] = lambda name: None,
    watch: Callable[[Mapping[str, float]], None] = lambda seconds: None,
) -> tuple[dict[str, Any], CaseResult]:
    """Prepare, check and time the candidates on one network.

    Args:
        progress: is told who is prepared, at last ``CONTROL`` when the rounds begin.
        watch: is told the seconds per call of each round.

    Returns:
        What the process that made the network says of it and of itself, and the rows.

    Raises:
        ZooError: the network cannot be made.
    """
    outcome = CaseResult()
    with ExitStack() as ends:
        file = ends.enter_context(tempfile.TemporaryFile())
        made = _make(job, file)
        shape = "x".join(map(str, made["input_shape"]))
        key: dict[str, Any] = {"op": "networks", "case": f"{job.model} {shape}", "model": job.model}
        key |= {"batch": job.batch, "image_size": made["input_shape"][-1]}

        def leave_out(name: str, left: LeftOut) -> None:
            facts = {"status": left.status, "reason": left.reason, "error": left.error}
            outcome.not_timed.append({**key, "candidate": name, **facts})

        def start(candidate: Candidate) -> NetworkRun | SideBySide:
            make = SideBySide if candidate.processes > 1 else NetworkRun
            run: NetworkRun | SideBySide = make(candidate, job, file)
            ends.callback(run.close)
            _check(run.facts["deviation"], "")
            return run

        runs: dict[str, NetworkRun | SideBySide] = {}
        for candidate in candidates:
            progress(candidate.name)
            try:
                runs[candidate.name] = start(candidate)
            except LeftOut as left:
                leave_out(candidate.name, left)
        calls, seconds = {}, {}
        for name in list(runs):
            try:
                calls[name], seconds[name] = calibrate(runs[name], plan.block_s)
            except LeftOut as left:
                leave_out(name, left)
                del runs[name]
        if not runs:
            return made, outcome
        by_name = {candidate.name: candidate for candidate in candidates}
        builtins = [name for name in runs if by_name[name].builtin]
        twin = min(builtins or runs, key=seconds.__getitem__)
        progress(f"{twin} again")
        try:
            everyone = {**runs, CONTROL: start(by_name[twin])}
        except LeftOut as left:
            raise ZooError(f"{twin} could not be prepared once more: {left.reason}") from None
        calls[CONTROL] = calls[twin]
        for run in everyone.values():
            run.blocks.clear()  # of finding out how many calls to make
        progress(CONTROL)
        timings = time_interleaved(everyone, calls, plan, watch)
        for name in list(runs):
            try:
                if name in timings.broken:
                    raise timings.broken[name]
                _check(runs[name](), " after many calls")
            except LeftOut as left:
                leave_out(name, left)
                del runs[name]
        if CONTROL in timings.broken:
            raise ZooError(f"{twin} broke down: {timings.broken[CONTROL].reason}")
    rows, control = compare(
        timings,
        list(runs),
        [name for name in runs if by_name[name].builtin],
        [name for name in runs if by_name[name].engine],
        twin,
    )
    outcome.control = {**key, **control} if control else None
    for name, run in runs.items():
        blocks = [run.blocks[number] for number in timings.kept]
        cold = [round(block["cold"] * 1e3, 6) for block in blocks if block["cold"] is not None]
        singles = [each for block in blocks for each in block["seconds"]]
        row = rows[name]
        facts = dict(run.facts)
        outcome.results.append(
            {
                **key,
                **row,
                "processes": by_name[name].processes,
                "p99_ms": float(np.percentile(singles, 99)) * 1e3,
                "cold_ms": summarize(cold).median if cold else None,
                "images_per_s": job.batch / row["median_ms"] * 1e3,
                "gflops": made["flops"] / row["median_ms"] / 1e6,
                "error": facts.pop("deviation"),
                **facts,
                "calls_per_block": calls[name],
                "top": run.top,
                "cold_samples_ms": cold,
            }
        )
    return made, outcome


def _make(job: Job, file: IO[bytes]) -> dict[str, Any]:
    network: dict[str, Any] = {"name": job.model}
    if job.photo is not None:
        network["path"] = job.photo
    else:
        network |= {"batch": job.batch, "image_size": job.image_size}
    try:
        process = _Process(job, file, make=network)
    except LeftOut as left:
        raise ZooError(f"{job.model}: {left.reason}") from None
    process.close()
    return process.facts


def _check(deviation: float, when: str) -> None:
    if not deviation <= TOLERANCE:
        raise LeftOut("wrong", f"its error is {deviation:.1e}{when}", deviation)
