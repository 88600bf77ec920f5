"""The measuring process: ``python -m zoo.benchmark.worker``.

It reads one job from stdin as JSON (the fields of :class:`Job`) and writes events to stdout,
one JSON object a line: ``environment`` first, then for each case ``begin`` before a candidate first
runs and ``case`` with the results, ``end``. Each number of threads has a process of its own, whose
thread pools no other one disturbs.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.benchmark.machine import (
    describe_process,
    last_cache_bytes,
    usable_cpus,
    wake_politely,
)
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.benchmark.peak import Ceilings


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to measure: cases as ``--shape`` takes them, and how.

    ``peak`` asks for the machine's ceilings first; then op and cases may be empty. ``crashed``
    names, by case, candidates that ended an earlier worker and are left out. On a GPU ``threads``
    is 1, the one that hands it its work.
    """

    op: str
    cases: list[str]
    threads: int
    dtype: str
    activation: str
    rivals: list[str]
    candidates: list[str]
    rounds: int
    block_ms: float
    weights: str = "hot"
    device: str = "cpu"
    cpu_capability: str | None = None
    peak: bool = False
    crashed: dict[str, list[str]] = field(default_factory=dict)


def _measure(job: Job, events: Any) -> None:
    on_cuda = job.device == "cuda"
    if not on_cuda:
        # Before torch is imported: some of the thread pools in it count processors, not settings.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, usable_cpus()[: job.threads])
        wake_politely()
    import torch

    from zoo.benchmark import cuda
    from zoo.benchmark.candidates import choose
    from zoo.benchmark.problem import Problem, check_memory, in_memory
    from zoo.benchmark.pytorch import describe_torch
    from zoo.benchmark.shapes import parse_case
    from zoo.benchmark.timing import WALL, Clock, Plan, measure_case

    def send(event: str, **facts: Any) -> None:
        print(json.dumps({"event": event, **facts}), file=events, flush=True)

    candidates = choose(job.op, job.rivals, job.candidates, job.device)
    dtype = getattr(torch, job.dtype)
    cases = [parse_case(job.op, text) for text in job.cases]
    for case in cases:
        check_memory(case, dtype)
    clock: Clock = WALL
    if on_cuda:
        if reason := cuda.missing():
            raise UsageError(f"no CUDA device: {reason}; leave out --device cuda")
        settings = cuda.prepare()
        clock, pauses = cuda.clock()
    else:
        torch.set_num_threads(job.threads)
    ours = _describe_zoo()  # before PyTorch runs anything: it checks what the machine has
    ceilings = _measure_ceilings(job.threads) if job.peak else None
    peak = {"peak": asdict(ceilings)} if ceilings else {}
    speed = describe_torch(dtype, job.device, clock)
    # Right after the matrix products: the clocks are still those of work.
    gpu = {"gpu": {**cuda.describe_gpu(), **settings, **pauses}} if on_cuda else {}
    send("environment", **describe_process(), **speed, **ours, **peak, **gpu)
    for case in cases:
        entrants = [c for c in candidates if c.name not in job.crashed.get(str(case), ())]
        with torch.inference_mode(), in_memory(case):
            problem = Problem.make(case, dtype, job.activation, device=job.device)
            rotates = job.weights == "cold" and not on_cuda  # there the clock clears the cache
            copies = copies_to_rotate(problem.weight.nbytes) if rotates else 1
            plan = Plan(rounds=job.rounds, block_s=job.block_ms / 1e3, copies=copies)
            outcome = measure_case(
                problem, entrants, plan, lambda name: send("begin", candidate=name), clock
            )
        if ceilings:
            attainable = ceilings.attainable_gflops(problem.case, copies)
            for row in outcome.results:
                row["percent_of_roofline"] = 100 * row["gflops"] / attainable
        send("case", **asdict(outcome))
    send("end")


def copies_to_rotate(weight_bytes: int) -> int:
    """How many copies of a weight fill the last cache twice; from 2 to 64."""
    return min(max(math.ceil(2 * last_cache_bytes() / weight_bytes), 2), 64)


def _measure_ceilings(threads: int) -> Ceilings:
    try:
        from zoo.benchmark.peak import measure
    except ImportError as error:
        raise ZooError(f"--peak measures with zoo's kernels, and {error}") from None
    return measure(threads)


def _describe_zoo() -> dict[str, Any]:
    try:
        from zoo import ops
    except ImportError:
        return {"zoo_capability": None, "zoo_build": None}
    return {"zoo_capability": ops.cpu_capability(), "zoo_build": ops.build_info()}


def main() -> int:
    """Measure the job on stdin."""
    # Ctrl-C reaches the whole process group; the runner ends this process by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries that print must not do so between the events.
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        _measure(Job(**json.load(sys.stdin)), events)
    except ZooError as error:
        message = {"event": "error", "message": str(error), "exit_code": error.exit_code}
        print(json.dumps(message), file=events, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
