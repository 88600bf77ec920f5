"""The process of one engine: ``python -m zoo.benchmark.engines.process``.

It reads requests from stdin, one JSON object a line, and answers each with one on stdout:

- ``{"target": "module:loader", "op", "case", "activation", "threads", "copies", "arrays"}``, the
  first: compile the case so many times. ``arrays`` is the descriptor of a file that holds input,
  weight and bias in .npy form, one after the other. Answer: ``{}``.
- ``{"calls": N}``: one untimed call, then N timed ones, through the copies in turn. Answer:
  ``{"seconds": per call}``. The clock is read here, so that the pipe does not count.
- ``{"calls": 0}``: one call, whose output goes into that file as .npy. Answer: ``{}``.

An exception's answer is ``{"error": text}``, the last one. What engines print goes to stderr.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.benchmark.engines.task import Loaded, Task
from zoo.benchmark.shapes import parse_case
from zoo.registry import load_target

_PR_SET_PDEATHSIG = 1


def _block_seconds(turns: Callable[[], Loaded], calls: int) -> float:
    turns().run()
    start = time.perf_counter()
    for _ in range(calls):
        turns().run()
    return (time.perf_counter() - start) / calls


def _serve(answers: Any) -> None:
    def answer(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    setup = json.loads(sys.stdin.readline())
    with os.fdopen(setup["arrays"], "r+b") as file:
        data = [np.load(file) for _ in range(3)]
        case = parse_case(setup["op"], setup["case"])
        task = Task(case, setup["activation"], setup["threads"], *data)
        load = load_target(setup["target"])
        copies: list[Loaded] = [load(task) for _ in range(setup["copies"])]
        turns = itertools.cycle(copies).__next__
        gc.disable()
        answer()
        for line in sys.stdin:
            calls = json.loads(line)["calls"]
            if calls:
                answer(seconds=_block_seconds(turns, calls))
                continue
            loaded = turns()
            output = loaded.read(loaded.run())
            file.seek(0)
            file.truncate()
            np.save(file, output)
            file.flush()
            answer()


def serve(answer_all: Callable[[Any], None]) -> None:
    """Have a function answer the requests on stdin until they end, and say what it raises.

    It is given the stream for its answers. What libraries print goes to stderr.
    """
    if sys.platform == "linux":
        # While it is stopped it would not notice that whoever started it is gone.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        answer_all(answers)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        print(json.dumps({"error": text}), file=answers, flush=True)


if __name__ == "__main__":
    serve(_serve)
