"""The measuring process's end of an engine: starts its process, has it time itself, ends it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.benchmark.machine import how_it_ended, others_run
from zoo.benchmark.problem import LeftOut, Problem

PATIENCE_S = 120
"""Seconds after which a silent engine is taken for hung."""


def _wait_for_own_threads(patience_s: float = 0.05) -> None:
    """Wait until the other threads of this process sleep.

    OpenMP's spin for some milliseconds after their work: as long as a whole block.
    """
    deadline = time.perf_counter() + patience_s
    while others_run() and time.perf_counter() < deadline:
        time.sleep(0.0005)


class EngineRun:
    """A case in an engine's process, which times its own blocks and is stopped between them.

    Stopped by SIGSTOP, because thread pools go on spinning after their work and would take
    processors away from the others. Called, it returns the output. Whatever goes wrong raises
    LeftOut and ends the process.
    """

    def __init__(self, target: str, problem: Problem, copies: int = 1) -> None:
        """Start the process and have it compile the case, ``copies`` times.

        ``target`` names the loader, "module:function". Files are anonymous: whatever dies,
        nothing is left behind.
        """
        with ExitStack() as files:
            self._arrays = files.enter_context(tempfile.TemporaryFile())
            self._log = files.enter_context(tempfile.TemporaryFile())
            self._files = files.pop_all()
        for tensor in (problem.input, problem.weight, problem.bias):
            np.save(self._arrays, tensor.numpy())
        self._arrays.seek(0)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "zoo.benchmark.engines.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            pass_fds=[self._arrays.fileno()],
        )
        self._ask(
            target=target,
            op=problem.case.op,
            case=str(problem.case),
            activation=problem.activation,
            threads=torch.get_num_threads(),
            copies=copies,
            arrays=self._arrays.fileno(),
        )

    def __call__(self) -> Tensor:
        """Compute once and return the output (N, C, H, W)."""
        self._ask(calls=0)
        self._arrays.seek(0)
        return torch.from_numpy(np.load(self._arrays))

    def block(self, calls: int) -> float:
        """Seconds per call over a block, by the engine's own clock, after an untimed call."""
        _wait_for_own_threads()
        return float(self._ask(calls=calls)["seconds"])

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()  # which a stopped process obeys too
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._files.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGCONT)
            assert self._process.stdin is not None  # a pipe
            with suppress(BrokenPipeError):  # the missing answer tells why
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(self._answer())
            if "error" in answer:
                raise LeftOut("failed", answer["error"])
            self._process.send_signal(signal.SIGSTOP)
        except BaseException:
            self.close()
            raise
        return answer

    def _answer(self) -> bytes:
        assert self._process.stdout is not None  # a pipe
        line, pipe = b"", self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], PATIENCE_S)[0]:
                raise LeftOut("failed", f"it gave no answer within {PATIENCE_S} s")
            part = os.read(pipe, 1 << 16)
            if not part:
                raise LeftOut("crashed", self._last_words())
            line += part
        return line

    def _last_words(self) -> str:
        ending = how_it_ended(self._process.wait(PATIENCE_S))
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"{ending}, after {lines[-1]!r}" if lines else ending
