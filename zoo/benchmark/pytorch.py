"""What PyTorch is in a measuring process, and what it reaches there."""

from __future__ import annotations

from typing import Any

import torch

from zoo.benchmark.timing import WALL, Clock


def gemm_gflops(
    dtype: torch.dtype, device: str = "cpu", clock: Clock = WALL, repeats: int = 7
) -> float:
    """GFLOP/s of the quickest of several large matrix products: what this process can reach.

    The matrices are square, of 1024 rows on the CPU and of 8192 on a GPU, which smaller ones would
    not fill.
    """
    size = 1024 if device == "cpu" else 8192
    a, b = torch.rand(2, size, size, dtype=dtype, device=device)
    seconds = [clock.block(lambda: a @ b, 1) for _ in range(repeats)]
    return 2 * size**3 / min(seconds) / 1e9


def describe_torch(dtype: torch.dtype, device: str = "cpu", clock: Clock = WALL) -> dict[str, Any]:
    """Instruction set, threads, versions and speed of PyTorch in this process."""
    onednn = [line for line in torch.__config__.show().splitlines() if "MKL-DNN v" in line]
    return {
        "torch": torch.__version__,
        "onednn": onednn[0].split(" v")[1].split()[0] if onednn else None,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gemm_gflops": gemm_gflops(dtype, device, clock),
    }
