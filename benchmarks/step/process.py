"""The process of one contestant: ``python -m step.process``.

It reads requests from stdin, one JSON object a line, and answers each with one on stdout:

- ``{"make": true, "case", "threads", "file"}``, alone: make images, targets and initial weights,
  and write them to a file, given by descriptor. Answer: ``{"losses"}`` of the first steps, computed
  by PyTorch in float64.
- ``{"contestant", "case", "threads", "file"}``, the first otherwise: build the contestant from that
  file and train the first steps. Answer: their ``losses``, the MiB by which memory rose in them,
  ``prepare_s``, the images per second of its input alone, and what the process runs with.
- ``{"steps": N}``: one untimed step, then at least N. Answer: ``{"seconds"}``, of one on average.
- ``{"peak": N}``: a step N times. Answer: ``peak_mb``, by how many MiB memory rises in each above
  the level before it, None where a framework keeps what it had; ``saved_mb``, what the forward
  keeps for the backward, if that is known.
- ``{"profile": N}``: N steps, looked into. Answer: see :mod:`step.profiling`. PyTorch's alone.

An exception's answer is ``{"error": text}``, the last one.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import sys
import time
from typing import Any

import numpy as np

from step.cases import ENGINES, GATE_STEPS, Case
from step.peak import WARM_UP, rise
from zoo.benchmark.engines.process import serve
from zoo.benchmark.machine import describe_process, usable_cpus
from zoo.training.memory import keep_freed_memory


def _serve(answers: Any) -> None:
    def answer(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    setup = json.loads(sys.stdin.readline())
    case = Case(**setup["case"])
    # Before a framework is imported: some count processors, not settings.
    os.sched_setaffinity(0, usable_cpus()[: case.threads])
    keeps = keep_freed_memory()  # as zoo train does, and for all alike
    name = setup.get("contestant")
    module = importlib.import_module(f"step.{'keras_steps' if name in ENGINES else 'pytorch'}")
    with os.fdopen(setup["file"], "r+b") as file:
        if name is None:
            module.make(case, file)
            file.seek(0)
            answer(losses=module.reference_losses(case, dict(np.load(file))))
            return
        start = time.perf_counter()
        contestant = module.Contestant(name, case, dict(np.load(file)))
    losses: list[float] = []
    rose = rise(lambda: losses.extend(map(contestant.checked_step, range(GATE_STEPS))))
    prepared = time.perf_counter() - start
    answer(
        losses=losses,
        first_steps_mb=rose,
        prepare_s=prepared,
        input_images_per_s=_input_rate(contestant, case.batch),
        process={
            **describe_process(),
            **module.describe(),
            "keeps_freed_memory": keeps,
        },
    )
    for line in sys.stdin:
        request = json.loads(line)
        if "steps" in request:
            answer(seconds=_seconds(contestant, request["steps"]))
        elif "peak" in request:
            for _ in range(WARM_UP):
                contestant.step()
            peaks = [rise(contestant.step) for _ in range(request["peak"])]
            answer(
                peak_mb=peaks if contestant.returns_memory else None,
                saved_mb=contestant.saved_mb(),
            )
        else:
            answer(**contestant.profile(request["profile"]))


def _seconds(contestant: Any, steps: int) -> float:
    calls = math.ceil(steps / contestant.steps_at_once)
    contestant.step()
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    for _ in range(calls):
        contestant.step()
    taken = time.perf_counter() - start
    gc.enable()
    return taken / (calls * contestant.steps_at_once)


def _input_rate(contestant: Any, batch: int) -> float:
    for _ in range(4):  # what was prepared ahead
        contestant.load()
    start, count, seconds = time.perf_counter(), 0, 0.0
    while seconds < 0.3:
        contestant.load()
        count += 1
        seconds = time.perf_counter() - start
    return count * batch / seconds


if __name__ == "__main__":
    serve(_serve)
