"""What is known of the CUDA side without a GPU: how it is built, what it is asked, fake tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from torch._subclasses.fake_tensor import FakeTensorMode

from zoo import ops
from zoo.cli.ops import command
from zoo.errors import UsageError

ROOT = Path(__file__).parents[2]
WITH_KERNELS = {
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "conv2d",
    "conv2d_pool",
    "max_pool2d",
    "max_pool2d_with_indices",  # which says that it has none
}


@pytest.fixture(scope="module")
def setup_py(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(ROOT / "setup.py")


# --- setup.py ----------------------------------------------------------------------------------


def test_zoo_cuda_decides(setup_py: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    decide, nvcc = setup_py.cuda_compiler, setup_py.Nvcc("/opt/nvcc", "13.0")
    assert decide("0", nvcc, "13.0", True) is None
    assert decide("1", nvcc, "13.0", False) == "/opt/nvcc"
    assert decide("auto", nvcc, "13.0", True) == "/opt/nvcc"
    assert decide("auto", nvcc, "13.0", False) is None
    assert decide("auto", None, None, False) is None
    assert capsys.readouterr().err == ""
    # A device that could be used is worth a line.
    assert decide("auto", nvcc, "12.9", True) is None
    assert "nvcc is of CUDA 13.0, but torch of 12.9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wish", "release", "torch_cuda", "message"),
    [
        ("yes", "13.0", "13.0", "ZOO_CUDA=yes is not known; set it to 0, 1 or auto"),
        ("1", None, "13.0", "there is no nvcc in CUDA_HOME/bin or on PATH"),
        ("1", "12.4", "13.0", "nvcc is of CUDA 12.4, but torch of 13.0"),
        ("1", "13.0", None, "this torch was built without CUDA"),
    ],
)
def test_zoo_cuda_that_cannot_be_is_one_line(
    setup_py: ModuleType, wish: str, release: str | None, torch_cuda: str | None, message: str
) -> None:
    nvcc = setup_py.Nvcc("/opt/nvcc", release) if release else None
    with pytest.raises(SystemExit, match=message) as error:
        setup_py.cuda_compiler(wish, nvcc, torch_cuda, True)
    assert "\n" not in str(error.value)


def test_nvcc_is_found(
    setup_py: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.99'\n")
    nvcc.chmod(0o755)
    found = setup_py.Nvcc(str(nvcc), "12.4")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(nvcc.parent), prepend=":")
    assert setup_py.find_nvcc() == found
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert setup_py.find_nvcc() == found
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    assert setup_py.find_nvcc() is None


def test_architectures(setup_py: ModuleType) -> None:
    assert setup_py.arch_flags("8.0;9.0a 12.0+PTX") == [
        *("-gencode", "arch=compute_80,code=sm_80"),
        *("-gencode", "arch=compute_90a,code=sm_90a"),
        *("-gencode", "arch=compute_120,code=sm_120"),
        *("-gencode", "arch=compute_120,code=compute_120"),
    ]
    assert setup_py.arch_flags(" 8.0; ") == setup_py.arch_flags("8.0")
    assert len(setup_py.arch_flags(setup_py.CUDA_ARCHS)) == 14
    with pytest.raises(SystemExit, match="'Ampere' is not a number like"):
        setup_py.arch_flags("7.5 Ampere")


# --- what was built ----------------------------------------------------------------------------


def test_ops_are_registered_where_they_were_built() -> None:
    built = ops.build_info()["cuda"] is not None
    registered = {
        name.removeprefix("zoo::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("zoo::") and torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")
    }
    assert registered == (WITH_KERNELS if built else set())
    assert {row["op"] for row in ops.cuda_kernels()} <= registered
    assert bool(ops.cuda_kernels()) == built
    assert bool(ops.build_info()["cuda_archs"]) == built


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_tensor_on_cuda_is_an_error_of_torch() -> None:
    with pytest.raises((RuntimeError, AssertionError)) as error:
        ops.conv2d(torch.ones(1, 1, 3, 3, device="cuda"), torch.ones(1, 1, 3, 3, device="cuda"))
    assert "zoo" not in str(error.value)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_fake_tensors_on_cuda(format: torch.memory_format) -> None:
    with FakeTensorMode():
        x = torch.empty(2, 8, 9, 9, device="cuda", dtype=torch.float16)
        x = x.contiguous(memory_format=format)
        weight = torch.empty(16, 8, 3, 3, device="cuda", dtype=torch.float16)
        packed = ops.conv2d_prepack(weight, padding=1, input_size=x.shape)
        outputs = [
            ops.conv2d(x, weight, padding=1, activation="relu"),
            ops.conv2d_packed(x, packed, weight.shape, padding=1),
            ops.conv2d_pool(x, weight),
            ops.max_pool2d(x, 2),
            ops.avg_pool2d(x, 3, 2, 1),
            ops.adaptive_avg_pool2d(x, 2),
        ]
        sizes = [(16, 9), (16, 9), (16, 3), (8, 4), (8, 5), (8, 2)]
        for y, (channels, side) in zip(outputs, sizes, strict=True):
            assert y.device.type == "cuda"
            assert y.dtype == torch.float16
            assert y.shape == (2, channels, side, side)
            assert y.is_contiguous(memory_format=format)


# --- the selection list ------------------------------------------------------------------------


def chosen(*case: object, **options: object) -> tuple[str, str | None]:
    """The implementation, and why the last kernel before aten is passed over."""
    rows = ops.explain_cuda_conv2d(*case, **options)  # type: ignore[arg-type]
    return next(row["implementation"] for row in rows if row["chosen"]), rows[-2]["reason"]


def test_explanation() -> None:
    first = (32, 3, 32, 32), (32, 3, 3, 3), 1, 1
    assert chosen(*first, activation="relu", channels_last=True) == ("conv2d", None)
    name, reason = chosen(*first, activation="relu")
    assert name == "aten"
    assert "not channels_last" in str(reason)
    name, reason = chosen(*first, bias=False, channels_last=True)
    assert name == "aten"
    assert "nothing is fused" in str(reason)
    assert chosen(*first, bias=False, residual=True, channels_last=True)[0] == "conv2d"
    large = (32, 512, 14, 14), (512, 512, 3, 3), 1, 1
    name, reason = chosen(*large, dtype=torch.bfloat16, activation="relu", channels_last=True)
    assert name == "aten"
    assert "limited by arithmetic" in str(reason)
    assert chosen(*large, precision="exact")[0] == "conv2d"
    assert chosen(*large, dtype=torch.float64, precision="exact")[0] == "aten"
    deep = (32, 96, 28, 28), (96, 1, 3, 3), 1, 1, 1, 96
    assert chosen(*deep, activation="silu", channels_last=True)[0] == "depthwise"
    with pytest.raises(UsageError, match="takes 8 channels, but input has 7"):
        ops.explain_cuda_conv2d((1, 7, 9, 9), (16, 8, 3, 3))
    with pytest.raises(UsageError, match='unknown activation "selu"'):
        ops.explain_cuda_conv2d(*first, activation="selu")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="weight_size must be four numbers"):
        ops.explain_cuda_conv2d((1, 8, 9, 9), (16, 8, 3))


def test_command_explains_cuda() -> None:
    case = ["--explain", "conv2d", "32,3,32,32,32,3,1,1", "--device", "cuda", "--format", "json"]
    run = CliRunner().invoke(command, [*case, "--channels-last", "--activation", "relu"])
    rows = json.loads(run.stdout)
    assert [row["implementation"] for row in rows] == ["depthwise", "conv2d", "aten"]
    assert [row["chosen"] for row in rows] == [False, True, False]
    assert "not depthwise" in rows[0]["why"]
    refused = CliRunner().invoke(command, [*case, "--packed"])
    assert isinstance(refused.exception, UsageError)
    assert "plain weights" in str(refused.exception)


def test_command_says_what_was_built() -> None:
    release = ops.build_info()["cuda"]
    note = CliRunner().invoke(command, []).stderr
    assert f"built with CUDA {release}" in note if release else "built without CUDA" in note
    if release and not torch.cuda.is_available():
        assert "no device" in note
