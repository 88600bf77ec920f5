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
last, small = x.contiguous(memory_format=torch.channels_last), torch.randn(1, 64, 14, 14)
gemm, winograd = ops.conv2d_prepack(w), ops.conv2d_prepack(w, padding=1, input_size=small.shape)
each, rows, head = torch.randn(64, 1, 3, 3), torch.randn(64, 1024), torch.randn(1024, 1024)
packed_head = ops.linear_prepack(head)
OP
before, end = ticks(), time.monotonic() + 1
while time.monotonic() < end:
    OP
after = ticks()
print(sorted(after[task] - before.get(task, 0) for task in after)[-2:])
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "op",
    [
        "ops.conv2d(x, w)",  # Winograd's method, each thread with tiles of its own
        "ops.conv2d_packed(small, winograd, w.shape, padding=1)",  # the threads share the tiles
        "ops.conv2d_packed(x, gemm, w.shape)",
        "ops.conv2d(last[:, :3], w[:, :3])",  # direct
        "ops.conv2d(last, each, groups=64)",  # depthwise
        "ops.linear_packed(rows, packed_head, head.shape)",
        "ops.max_pool2d(x, 3, 1)",
        "ops.avg_pool2d(last, 3, 1)",
    ],
)
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
x, deep = torch.randn(4, 32, 64, 64), torch.randn(64, 32, 3, 3)
stem, each = torch.randn(16, 3, 3, 3), torch.randn(32, 1, 3, 3)
winograd = ops.conv2d_prepack(deep, padding=1, input_size=x.shape)
gemm = ops.conv2d_prepack(deep)
wide, head = torch.randn(8, 700), torch.randn(300, 700)
packed_head = ops.linear_prepack(head)

def results():  # of every kind of kernel, each with work for several threads
    return (
        ops.conv2d(x, deep), ops.conv2d_packed(x, winograd, deep.shape, padding=1),
        ops.conv2d_packed(x, gemm, deep.shape), ops.conv2d(x[:, :3], stem),
        ops.conv2d(x, each, groups=32), ops.conv2d_pool(x, deep, padding=1, activation="relu"),
        ops.max_pool2d(x, 3, 1), ops.avg_pool2d(x, 3, 1), ops.adaptive_avg_pool2d(x, 7),
        ops.scale_shift(x, activation="silu"), ops.linear_packed(wide, packed_head, head.shape),
    )

def threads():
    return len(os.listdir("/proc/self/task"))

expected = results()
assert threads() >= 2, "the pool has no threads"
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    before = threads()
    same = all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(results(), expected))
    # Left to PyTorch elsewhere, whose threads it would wait for here.
    exact = ops.conv2d(x, deep, precision="exact")
    same = same and exact.numpy().tobytes() == expected[2].numpy().tobytes()
    os._exit(7 if not same else 8 if (before, threads()) != (1, 1) else 0)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_forked_child_works_on_one_thread() -> None:
    # With the choices of every day: ZOO_FALLBACK=error would leave none to PyTorch.
    result = run_python(FORK, OMP_WAIT_POLICY="passive", ZOO_FALLBACK="aten")
    assert result.stdout == "0\n", result.stderr


# What is PyTorch's to compute there: batch norm in NCHW, half precision, activations by themselves.
FORK_OF_PYTORCH = """
import os, signal, torch
from zoo import ops
torch.set_num_threads(1)  # as a child works
x, deep, scale = torch.randn(4, 32, 64, 64), torch.randn(64, 32, 3, 3), torch.randn(32, 1, 1)
half, half_deep, half_scale = x.half(), deep.half(), scale.half()
leaf = deep.detach().requires_grad_()

def results():
    packed = ops.conv2d_prepack(half_deep)
    return (
        *ops.conv2d_batch_norm(x, deep, activation="silu"), *ops.conv2d_batch_norm(x, leaf),
        *ops.conv2d_batch_norm(half, half_deep, activation="relu"),
        ops.conv2d(x, leaf, activation="gelu"), ops.conv2d(half, half_deep),
        ops.conv2d_pool(half, half_deep, activation="relu"), packed,
        ops.conv2d_packed(half, packed, half_deep.shape),
        *ops.max_pool2d(half, 3, 1, return_indices=True), ops.avg_pool2d(half, 3, 1),
        ops.adaptive_avg_pool2d(half, 40), ops.scale_shift(half, half_scale),
        ops.linear(half, half_deep[:, :, 0, 0].repeat(1, 2)),
    )

expected = [each.detach().numpy().tobytes() for each in results()]
torch.set_num_threads(2)
results()  # the pool has threads now
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    same = [each.detach().numpy().tobytes() for each in results()] == expected
    os._exit(7 if not same else 8 if torch.get_num_threads() != 2 else 0)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
"""


def test_forked_child_gives_pytorch_one_thread() -> None:
    result = run_python(FORK_OF_PYTORCH, OMP_WAIT_POLICY="passive", ZOO_FALLBACK="aten")
    assert result.stdout == "0\n", result.stderr


def convolutions() -> list[torch.Tensor]:
    """One by each kernel, each large enough for threads to be woken."""
    generator = torch.Generator().manual_seed(3)

    def tensor(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    x, w = tensor(3, 16, 40, 40), tensor(48, 16, 3, 3)
    small, deep = tensor(1, 64, 12, 12), tensor(64, 64, 3, 3)
    return [
        ops.conv2d(x, w, padding=1),  # Winograd's
        ops.conv2d(small, deep, padding=1),
        ops.conv2d_packed(x, ops.conv2d_prepack(w), w.shape, padding=1),
        ops.conv2d_packed(small, ops.conv2d_prepack(deep), deep.shape, stride=2, padding=1),
        ops.conv2d(x, tensor(16, 1, 5, 5), padding=2, groups=16),
        ops.conv2d(x, tensor(32, 4, 3, 3), groups=4),
        ops.conv2d_pool(x, w, padding=1),
        ops.max_pool2d(x, 3, 1),
        ops.avg_pool2d(x, 3, 1),
        ops.adaptive_avg_pool2d(x, 1),
    ]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same(threads: int, capability: str) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        expected = convolutions()
        torch.set_num_threads(threads)
        for result, other in zip(convolutions(), expected, strict=True):
            assert torch.equal(result, other)
    finally:
        torch.set_num_threads(before)


def test_concurrent_callers() -> None:
    x, w = torch.randn(2, 16, 40, 40), torch.randn(48, 16, 3, 3)
    expected = ops.conv2d(x, w)

    def work(seed: int) -> None:
        torch.set_num_threads(2)  # of this thread: callers with a thread pool each
        end = time.monotonic() + 1
        all_samples = list(op_samples.samples())
        index = seed * 7
        while time.monotonic() < end:
            op_samples.check(all_samples[index % len(all_samples)])
            assert torch.equal(ops.conv2d(x, w), expected)
            index += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
