"""What the tests of training share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file


def weights(folder: Path, name: str = "last") -> dict[str, bytes]:
    """The tensors of a checkpoint of a run, bit for bit."""
    held = load_file(folder / f"{name}.safetensors")
    return {key: value.numpy().tobytes() for key, value in held.items()}


class Launcher:
    """Starts ``zoo ARGUMENTS`` in processes of their own."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("launcher.py"), log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "ready"

    def line(self) -> str:
        return self.process.stdout.readline().strip()

    def start(self, *jobs: tuple[list[str], dict[str, str]]) -> list[int]:
        """Start jobs, which are arguments and further variables; return the process ids."""
        all_variables = [(arguments, {**os.environ, **more}) for arguments, more in jobs]
        self.process.stdin.write(json.dumps(all_variables) + "\n")
        self.process.stdin.flush()
        return [int(word) for word in self.line().split()]

    def statuses(self) -> list[int]:
        """Wait for the jobs to end."""
        return [int(word) for word in self.line().split()]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()
