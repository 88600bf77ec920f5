"""Choosing instruction sets, the environment's say in it, and what is told about the choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from zoo import ops
from zoo.cli.ops import command
from zoo.errors import UsageError

OPS = {
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "conv2d",
    "conv2d_backward",
    "conv2d_batch_norm",
    "conv2d_max_pool2",
    "group_norm",
    "layer_norm",
    "linear",
    "max_pool2d",
    "scale_shift",
}

RUN = """
import torch
from zoo import ops
try:
    print(ops.cpu_capability())
except Exception as error:
    print(type(error).__name__, error)
try:
    ops.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3))
    print("ran")
except ValueError as error:
    print(error)
"""


def run_with(capability: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "ZOO_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return result.stdout.splitlines()


@pytest.mark.parametrize("name", ops.cpu_capabilities())
def test_environment_forces_a_level(name: str) -> None:
    assert run_with(name) == [name, "ran"]


@pytest.mark.parametrize(
    "name", ["avx3", *sorted({"avx2", "avx512"} - set(ops.cpu_capabilities()))], ids=str
)
def test_bad_environment_is_a_clear_error(name: str) -> None:
    told, raised = run_with(name)
    assert told.startswith("UsageError ZOO_CPU_CAPABILITY")
    assert name in told
    assert raised.startswith("ZOO_CPU_CAPABILITY")


def test_set_cpu_capability(capability: str) -> None:
    assert ops.cpu_capability() == capability
    with pytest.raises(UsageError, match="mmx"):
        ops.set_cpu_capability("mmx")
    with pytest.raises(TypeError, match="name must be scalar, avx2 or avx512, not None") as error:
        ops.set_cpu_capability(None)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert ops.cpu_capability() == capability


def test_levels_are_in_order_and_have_kernels() -> None:
    names = ops.cpu_capabilities()
    assert names == [name for name in ("scalar", "avx2", "avx512") if name in names]
    assert {row["isa"] for row in ops.kernels()} <= set(names)
    scalar = {(row["op"], row["dtype"]) for row in ops.kernels() if row["isa"] == "scalar"}
    every = {(op, dtype) for op in OPS for dtype in ("float32", "float64")}
    assert scalar == every - {("layer_norm", "float64"), ("group_norm", "float64")}


def test_unknown_fallback_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_FALLBACK", "never")
    x = torch.ones(1, 1, 3, 3, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match='ZOO_FALLBACK=never is not known; set it to "aten"'):
        ops.max_pool2d(x, 2)
    monkeypatch.setenv("ZOO_FALLBACK", "aten")
    assert ops.max_pool2d(x, 2).dtype == torch.bfloat16


def test_explanation() -> None:
    shallow = ops.explain_conv2d((1, 8, 9, 9), (16, 8, 3, 3), padding=1)
    assert [row["implementation"] for row in shallow if row["chosen"]] == ["direct"]
    deep = ops.explain_conv2d((1, 32, 9, 9), (16, 32, 3, 3), padding=1, stride=2)
    assert [row["implementation"] for row in deep if row["chosen"]] == ["gemm"]
    depthwise = ops.explain_conv2d((1, 8, 9, 9), (8, 1, 3, 3), groups=8)
    assert [row["implementation"] for row in depthwise if row["chosen"]] == ["depthwise"]
    half = ops.explain_conv2d((1, 8, 9, 9), (16, 8, 3, 3), dtype=torch.float16)
    assert [row["chosen"] for row in half] == [False] * 5 + [True]
    assert "dtype" in str(half[0]["reason"])
    sizes = (1, 64, 56, 56), (64, 64, 3, 3)
    for precision, packed, expected in (
        ("default", False, "winograd4"),
        ("default", True, "winograd4"),
        ("exact", True, "gemm"),
    ):
        rows = ops.explain_conv2d(*sizes, padding=1, precision=precision, packed=packed)
        assert [row["implementation"] for row in rows if row["chosen"]] == [expected]
    assert [row["reason"] for row in rows[1:3]] == ['precision="exact" avoids Winograd'] * 2
    with pytest.raises(UsageError, match='unknown precision "half"'):
        ops.explain_conv2d(*sizes, precision="half")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match='unknown activation "swish"'):
        ops.explain_conv2d(*sizes, activation="swish")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes 8 channels, but input has 7"):
        ops.explain_conv2d((1, 7, 9, 9), (16, 8, 3, 3))
    with pytest.raises(UsageError, match="input_size must be four numbers"):
        ops.explain_conv2d((8, 9, 9), (16, 8, 3, 3))


def test_build_info() -> None:
    info = ops.build_info()
    assert info["torch"] == torch.__version__.split("+", maxsplit=1)[0]
    assert "-O3" in info["flags"]
    assert set(ops.cpu_capabilities()) <= set(info["isas"].split())


def test_command_lists_the_active_kernels(capability: str) -> None:
    result = CliRunner().invoke(command, ["--format", "json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    active = [row for row in rows if row["active"] and row["dtype"] == "float32"]
    active = [row for row in active if row["isa"] != "cuda"]
    assert {row["op"] for row in active} == OPS
    assert {row["isa"] for row in active} == {capability}
    table = CliRunner().invoke(command, [])
    assert f"instruction set in use: {capability}" in table.stderr


def test_command_explains() -> None:
    case = ["--explain", "conv2d", "1,8,9,9,8,3,1,1,8", "--format", "json"]
    rows = json.loads(CliRunner().invoke(command, case).stdout)
    names = ["depthwise", "winograd4", "winograd2", "direct", "gemm", "aten"]
    assert [row["implementation"] for row in rows] == names
    assert [row["chosen"] for row in rows] == [True] + [False] * 5
    assert rows[0]["kernel"].startswith("depthwise_")
    # Nothing is expected of what cannot run the case; the choice is timed, and aten beside it.
    assert [row["estimated_ms"] is not None for row in rows] == [True] + [False] * 5
    assert [row["measured_ms"] is not None for row in rows] == [True] + [False] * 4 + [True]
    assert all(row["measured_ms"] > 0 for row in (rows[0], rows[-1]))


@pytest.mark.parametrize(
    ("options", "implementation"),
    [
        ([], "aten"),
        (["--packed"], "winograd2"),
        (["--packed", "--precision", "exact"], "gemm"),
        (["--packed", "--dtype", "float64"], "gemm"),
        (["--dtype", "bfloat16"], "aten"),
    ],
    ids=str,
)
def test_command_explains_what_options_change(options: list[str], implementation: str) -> None:
    case = ["--explain", "conv2d", "1,512,7,7,512,3,1,1", "--format", "json", *options]
    rows = json.loads(CliRunner().invoke(command, case).stdout)
    chosen = next(row for row in rows if row["chosen"])
    assert chosen["implementation"] == implementation
    assert chosen["measured_ms"] > 0


def test_explanation_of_a_memory_format() -> None:
    case = (1, 64, 56, 56), (256, 64, 1, 1)
    for channels_last, expected in ((True, "direct"), (False, "aten")):
        rows = ops.explain_conv2d(*case, channels_last=channels_last)
        assert [row["implementation"] for row in rows if row["chosen"]] == [expected]
    assert "conv2d_prepack it once" in str(rows[-2]["reason"])


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ((1, 320, 14, 14), {}),
        ((8, 512, 28, 28), {}),
        ((1, 320, 28, 28), {"stride": 2}),
    ],
)
def test_tall_tiles_take_deeper_sums(
    capability: str, case: tuple[int, ...], options: dict[str, int]
) -> None:
    expected = "direct" if capability == "avx512" else "gemm"
    assert chosen_of_pointwise(case, **options) == expected


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ((1, 513, 14, 14), {}),  # too deep
        ((16, 320, 7, 7), {}),  # too few pixels a map
        ((512, 320, 1, 1), {}),
        ((1, 512, 28, 28), {"stride": 2}),  # 4096 bytes from pixel to pixel
        ((1, 320, 14, 14), {"channels_last": False}),
        ((1, 320, 14, 14), {"dtype": torch.float64}),
    ],
)
def test_deep_sums_that_no_tall_tiles_take(
    capability: str, case: tuple[int, ...], options: dict[str, Any]
) -> None:
    assert chosen_of_pointwise(case, **options) == "gemm"


def chosen_of_pointwise(case: tuple[int, ...], **options: Any) -> str:
    """The implementation of a 1x1 convolution with as many filters as channels."""
    options = {"channels_last": True, **options}
    rows = ops.explain_conv2d(case, (case[1], case[1], 1, 1), packed=True, **options)
    return str(next(row["implementation"] for row in rows if row["chosen"]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_choice_of_aten_for_speed_can_be_forbidden(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight = torch.randn(1, 2048, 7, 7, dtype=dtype), torch.randn(64, 2048, 1, 1, dtype=dtype)

    def runs_aten() -> bool:
        with torch.autograd.profiler.profile() as recorded:
            ops.conv2d(x, weight)
        return "aten::conv2d" in {event.name for event in recorded.function_events}

    monkeypatch.setenv("ZOO_FALLBACK", "aten")
    assert runs_aten()
    assert torch.equal(ops.conv2d(x, weight), torch.nn.functional.conv2d(x, weight))
    monkeypatch.setenv("ZOO_FALLBACK", "error")
    assert not runs_aten()
    packed = ops.conv2d_packed(x, ops.conv2d_prepack(weight), weight.shape)
    assert torch.equal(ops.conv2d(x, weight), packed)
