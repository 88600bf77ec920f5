"""Two threads work, a forked child is safe, and callers do not disturb one another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import op_samples
import pytest
import torch

from zoo import ops


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# Processor time of each thread of the process while it convolves for a while.
TWO_THREADS = """
import os, time, torch
from zoo import ops

def ticks():
    result = {}
    for task in os.listdir("/proc/self/task"):
        fields = open(f"/proc/self/task/{task}/stat").read().rsplit(")", 1)[1].split()
        result[task] = int(fields[11]) + int(fields[12])
    return result

torch.set_num_threads(2)
x, w = torch.randn(4, 64, 56, 56), torch.randn(64, 64, 3, 3)
ops.conv2d(x, w)
before, end = ticks(), time.monotonic() + 1.5
while time.monotonic() < end:
    OP
after = ticks()
print(sorted(after[task] - before.get(task, 0) for task in after)[-2:])
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("op", ["ops.conv2d(x, w)", "ops.max_pool2d(x, 3, 1)"])
def test_two_threads_share_the_work(op: str) -> None:
    # Waiting threads sleep, so that processor time is work.
    result = run_python(TWO_THREADS.replace("OP", op), OMP_WAIT_POLICY="passive")
    assert result.returncode == 0, result.stderr
    less, more = json.loads(result.stdout)
    assert less > 0.4 * more, (less, more)


FORK = """
import os, signal, torch
from zoo import ops
torch.set_num_threads(2)
x, w = torch.randn(4, 32, 32, 32), torch.randn(32, 32, 3, 3)
expected = ops.conv2d(x, w), ops.max_pool2d(x, 2), ops.avg_pool2d(x, 2)  # the pool has threads now
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    results = ops.conv2d(x, w), ops.max_pool2d(x, 2), ops.avg_pool2d(x, 2)
    same = all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(results, expected))
    os._exit(0 if same else 7)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
"""


def test_forked_child_does_not_hang() -> None:
    result = run_python(FORK)
    assert result.stdout == "0\n", result.stderr


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    before = torch.get_num_threads()
    x, w = torch.randn(3, 16, 40, 40), torch.randn(48, 16, 3, 3)
    expected = ops.conv2d(x, w, padding=1)
    try:
        torch.set_num_threads(threads)
        for _ in range(5):
            assert torch.equal(ops.conv2d(x, w, padding=1), expected)
            assert torch.equal(
                ops.conv2d_pool(x, w, padding=1), torch.nn.functional.max_pool2d(expected, 2)
            )
    finally:
        torch.set_num_threads(before)


def test_concurrent_callers() -> None:
    def work(seed: int) -> None:
        end = time.monotonic() + 1
        all_samples = list(op_samples.samples())
        index = seed * 7
        while time.monotonic() < end:
            op_samples.check(all_samples[index % len(all_samples)])
            index += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
