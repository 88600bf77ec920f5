"""The measuring end of a process that times itself: starts it, stops it between blocks, ends it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
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


class Remote:
    """A process that computes and times its own blocks, and is stopped between them.

    It answers each request, one JSON object a line, with another. It is stopped by SIGSTOP,
    because thread pools go on spinning after their work and would take processors away from the
    others. Whatever goes wrong raises LeftOut and ends the process.
    """

    patience_s = PATIENCE_S

    def __init__(
        self,
        module: str,
        files: Iterable[int],
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        """Start ``python -m module``, which inherits files, given by descriptor.

        Files are anonymous: whatever dies, nothing is left behind. Another ``python`` is for what
        needs packages that this one lacks.
        """
        with ExitStack() as opened:
            self._log = opened.enter_context(tempfile.TemporaryFile())
            self._files = opened.pop_all()
        self._process = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            pass_fds=list(files),
            env=environment,
        )

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()  # which a stopped process obeys too
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._files.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer, however long that takes."""
        self.send(**request)
        return self.receive()

    def send(self, **request: Any) -> None:
        """Let the process run, and send it a request."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin is not None  # a pipe
        with suppress(BrokenPipeError):  # the missing answer tells why
            self._process.stdin.write(json.dumps(request).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Return the answer to the last request, and stop the process."""
        try:
            answer: dict[str, Any] = json.loads(self._answer())
            if "error" in answer:
                raise LeftOut("failed", answer["error"])
            self._stop()
        except BaseException:
            self.close()
            raise
        return answer

    def _stop(self) -> None:
        """Stop the process, and wait until it has: it needs a processor to do so."""
        self._process.send_signal(signal.SIGSTOP)
        # Looked at, not taken: how a process ends is Popen's to learn.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _answer(self) -> bytes:
        assert self._process.stdout is not None  # a pipe
        line, pipe = b"", self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], self.patience_s)[0]:
                raise LeftOut("failed", f"it gave no answer within {self.patience_s} s")
            part = os.read(pipe, 1 << 16)
            if not part:
                raise LeftOut("crashed", self._last_words())
            line += part
        return line

    def _last_words(self) -> str:
        ending = how_it_ended(self._process.wait(self.patience_s))
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"{ending}, after {lines[-1]!r}" if lines else ending


class EngineRun(Remote):
    """A case in an engine's process. Called, it returns the output."""

    def __init__(self, target: str, problem: Problem, copies: int = 1) -> None:
        """Start the process and have it compile the case, ``copies`` times.

        ``target`` names the loader, "module:function".
        """
        with ExitStack() as files:
            self._arrays = files.enter_context(tempfile.TemporaryFile())
            for tensor in (problem.input, problem.weight, problem.bias):
                np.save(self._arrays, tensor.numpy())
            self._arrays.seek(0)
            super().__init__("zoo.benchmark.engines.process", [self._arrays.fileno()])
            self._files.push(files.pop_all())
        self.ask(
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
        self.ask(calls=0)
        self._arrays.seek(0)
        return torch.from_numpy(np.load(self._arrays))

    def block(self, calls: int) -> float:
        """Seconds per call over a block, by the engine's own clock, after an untimed call."""
        _wait_for_own_threads()
        return float(self.ask(calls=calls)["seconds"])
