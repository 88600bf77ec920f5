"""Runs the measuring processes, one after the other, and gathers what they report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from zoo.benchmark.machine import how_it_ended, worker_environment
from zoo.benchmark.worker import Job
from zoo.errors import UsageError, ZooError

Event = dict[str, Any]


@dataclass(slots=True)
class Measurements:
    """What the workers reported: rows as in the JSON output, and each process's environment."""

    processes: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    not_timed: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def _worker(job: Job) -> Iterator[tuple[Iterator[Event], subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo.benchmark.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=worker_environment(job.cpu_capability),
    )
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    try:
        # A worker that cannot even start closes its end; its exit code tells.
        with suppress(BrokenPipeError), process.stdin as stdin:
            json.dump(asdict(job), stdin)
        yield map(json.loads, process.stdout), process
        process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run(job: Job, progress: Callable[[str], None]) -> Measurements:
    """Measure a job in a process of its own; a new one goes on where a candidate crashed one.

    Raises the worker's own errors, and ZooError if it ends before it measures anything.
    """
    measured = Measurements()
    common = {
        "threads": job.threads,
        "dtype": job.dtype,
        "activation": job.activation,
        "weights": job.weights,
    }
    pending = list(job.cases)
    total = len(pending)
    where = f"{job.threads} thread{'s' if job.threads != 1 else ''}"
    where = where if job.device == "cpu" else job.device
    crashed: dict[str, list[str]] = {}
    while pending or not measured.processes:  # without cases, once for the environment
        candidate: str | None = None
        environment: dict[str, Any] = {}
        finished = False
        with _worker(replace(job, cases=pending, crashed=crashed)) as (events, process):
            for event in events:
                kind = event.pop("event")
                if kind == "error":
                    raise (UsageError if event["exit_code"] == 2 else ZooError)(event["message"])
                if kind == "environment":
                    environment = event
                elif kind == "begin":
                    candidate = event["candidate"]
                elif kind == "case":
                    _take(measured, event, common, environment["gemm_gflops"])
                    done = total - len(pending) + 1
                    progress(f"[{done}/{total}] {_line(pending.pop(0), event, where)}")
                    candidate = None
                finished = kind == "end"
        if environment and not measured.processes:
            measured.processes.append(environment)
        if finished:
            break
        reason = how_it_ended(process.returncode)
        if candidate is None:
            raise ZooError(f"the benchmark's worker failed: {reason}; see its messages above")
        case = pending[0]
        progress(f"{case}: {candidate} crashed ({reason})")
        measured.not_timed.append(
            {
                "op": job.op,
                "case": case,
                "candidate": candidate,
                "status": "crashed",
                "reason": reason,
                "error": None,
                **common,
            }
        )
        if candidate in crashed.setdefault(case, []) or candidate == "control":
            pending.pop(0)  # it was under way among the others: nobody can be blamed
        crashed[case].append(candidate)
    return measured


def _take(measured: Measurements, event: Event, common: Event, gemm_gflops: float) -> None:
    for row in event["results"]:
        share = 100 * row["gflops"] / gemm_gflops
        measured.results.append({**row, "percent_of_gemm": share, **common})
    measured.not_timed += [{**row, **common} for row in event["not_timed"]]
    if event["control"]:
        measured.controls.append({**event["control"], **common})


def _line(case: str, event: Event, where: str) -> str:
    head = f"{case}, {where}: "
    if not event["results"]:
        return head + "nothing could be timed"
    quickest = min(event["results"], key=lambda row: row["median_ms"])
    return head + f"quickest is {quickest['candidate']} at {quickest['median_ms']:.3g} ms"
