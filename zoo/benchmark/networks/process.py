"""The process of one candidate: ``python -m zoo.benchmark.networks.process``.

It reads requests from stdin, one JSON object a line, and answers each with one on stdout:

- ``{"make": {"name", "batch", "image_size"}, "threads", "file"}``, or with ``{"name", "path"}`` of
  a photograph, alone: make the network and write it to a file, given by descriptor. Answer:
  what is known about it and this process.
- ``{"target": "module:prepare", "model", "threads", "first_cpu", "file"}``, the first otherwise:
  bound to as many processors from that one on, prepare the network of that file by a backend.
  Answer: ``prepare_ms``, ``first_call_ms``, its ``deviation``, ``resident_mb`` and how much of it
  came with the network, ``network_mb``.
- ``{"calls": N, "cold": true}``: N calls, each timed, after an untimed one if they are many; then,
  if it is wanted, one with cold caches. Answer: ``{"seconds": [...], "cold": seconds}``.
- ``{"check": true}``: one call. Answer: its ``deviation`` and ``top``, the best five classes.

``deviation`` is max |error| / max |reference|, as in zoo.optimize's own check. An exception's
answer is ``{"error": text}``, the last one.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.benchmark.engines.process import serve
from zoo.benchmark.machine import describe_process, last_cache_bytes, resident_bytes, usable_cpus
from zoo.registry import load_target

Answer = Callable[..., None]


def _serve(answers: Any) -> None:
    def answer(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    setup = json.loads(sys.stdin.readline())
    # Before torch is imported: some of the thread pools in it count processors, not settings.
    first = setup.get("first_cpu", 0)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, usable_cpus()[first : first + setup["threads"]])
    import torch

    torch.set_num_threads(setup["threads"])
    with torch.inference_mode(False), torch.no_grad():
        if "make" in setup:
            _make(setup, answer)
        else:
            _compete(setup, answer)


def _make(setup: dict[str, Any], answer: Answer) -> None:
    import torch

    from zoo import ops
    from zoo.benchmark.networks.model import Network, best
    from zoo.benchmark.pytorch import describe_torch

    ours = {"zoo_capability": ops.cpu_capability(), "zoo_build": ops.build_info()}
    wanted = setup["make"]
    network = Network.of_photo(**wanted) if "path" in wanted else Network.make(**wanted)
    with os.fdopen(setup["file"], "r+b") as file:
        network.write(file)
    answer(
        input_shape=list(network.input.shape),
        parameters=sum(each.numel() for each in network.module.parameters()),
        flops=network.flops,
        labels=network.labels,
        top=best(network.expected),
        process={**describe_process(), **describe_torch(torch.float32), **ours},
    )


def _compete(setup: dict[str, Any], answer: Answer) -> None:
    import torch  # noqa: F401  (its memory is not the network's)

    from zoo.benchmark.networks.model import Network, best
    from zoo.compiler.optimize import difference

    _give_back_memory()
    before = resident_bytes()
    with os.fdopen(setup["file"], "r+b") as file:
        network = Network.read(setup["model"], file)
    input, expected = network.input, network.expected
    prepare = load_target(setup["target"])
    start = time.perf_counter()
    run = prepare(network.module, (input,), {})
    prepared = time.perf_counter()
    output = run(input)
    called = time.perf_counter()
    del network  # what the engine does not need is not its memory
    _give_back_memory()
    run(input)
    resident = resident_bytes()
    answer(
        prepare_ms=(prepared - start) * 1e3,
        first_call_ms=(called - prepared) * 1e3,
        deviation=difference(output, expected),
        resident_mb=resident / 2**20,
        network_mb=(resident - before) / 2**20,
    )
    flush = np.zeros(2 * last_cache_bytes(), np.uint8)
    gc.disable()
    for line in sys.stdin:
        request = json.loads(line)
        if "check" in request:
            output = run(input)
            answer(deviation=difference(output, expected), top=best(output))
            continue
        calls = request["calls"]
        if calls > 1:
            run(input)
        seconds = [_seconds(run, input) for _ in range(calls)]
        if not request["cold"]:
            answer(seconds=seconds, cold=None)
            continue
        flush += 1
        answer(seconds=seconds, cold=_seconds(run, input))


def _seconds(run: Callable[..., Any], input: Any) -> float:
    start = time.perf_counter()
    run(input)
    return time.perf_counter() - start


def _give_back_memory() -> None:
    """Return to the system what is not in use, which our malloc keeps otherwise."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


if __name__ == "__main__":
    serve(_serve)
