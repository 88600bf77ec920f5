"""``zoo bench --device cuda`` on a GPU."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cuda_device import DTYPES

from zoo.benchmark.names import CUDA_OURS, CUDA_RIVALS


@pytest.mark.parametrize("dtype", [str(dtype).removeprefix("torch.") for dtype in DTYPES])
@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("conv2d", "2,16,14,14,32,3,1,1"),
        ("conv2d_pool", "2,16,14,14,32,3,1,1+max3s2"),
        ("max_pool2d", "2,16,14,14,3,2,1"),
        ("avg_pool2d", "2,16,14,14,2,2,0"),
        ("adaptive_avg_pool2d", "2,16,14,14,1"),
    ],
)
def test_all_candidates_pass_the_gate_and_are_timed(op: str, shape: str, dtype: str) -> None:
    # torch.compile's search takes its time.
    rivals = "builtin" if (op, dtype) == ("conv2d", "float16") else "eager,eager-nhwc"
    command = [sys.executable, "-m", "zoo", "bench", "--device", "cuda", "--op", op]
    command += ["--shape", shape, "--dtype", dtype, "--rounds", "5", "--rivals", rivals]
    done = subprocess.run(
        [*command, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    ours = [name for name in CUDA_OURS if name != "zoo-exact" or op.startswith("conv2d")]
    theirs = [name for name in CUDA_RIVALS if rivals == "builtin" or name in rivals.split(",")]
    assert document["not_timed"] == []
    assert [row["candidate"] for row in document["results"]] == [*ours, *theirs]
    (process,) = document["header"]["processes"]
    gpu = process["gpu"]
    assert gpu["name"]
    assert not gpu["tf32"]
    assert gpu["cudnn_benchmark"]
    assert 0 < gpu["empty_us"] < 50
    assert process["gemm_gflops"] > 100
    for row in document["results"]:
        assert 0 < row["median_ms"] < 10
        assert row["weights"] == "cold"
