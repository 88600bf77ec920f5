"""How the ops run on a GPU: without waiting, on the current stream and device, in CUDA graphs."""

from __future__ import annotations

import pytest
import torch
from cuda_device import DTYPES, TAKEN, check, on_device
from torch import Tensor

from zoo import ops

SLEEP = 500_000_000  # cycles: a quarter of a second at 2 GHz

KINDS = [
    "conv2d-bias",
    "conv2d-channels-last",
    "conv2d-depthwise",
    "conv2d-depthwise-5x5-s2",
    "conv2d-residual-depthwise",
    "conv2d_pool-max3s2",
    "conv2d_pool-winograd4-max",
    "max_pool2d-3s2p1",
    "max_pool2d-channels-last",
    "avg_pool2d-2",
    "adaptive_avg_pool2d-global-cl",
    "adaptive_avg_pool2d-uneven",
]
"""A sample or more of every kernel."""


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_nothing_waits_for_the_device(own: None) -> None:
    samples = [on_device(name, torch.float16) for name in TAKEN]
    for sample in samples:
        sample.run()  # the first call of all asks what the device is
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")  # PyTorch's own waiting
    try:
        torch.cuda._sleep(SLEEP)
        for sample in samples[:50]:  # no more than the queue of launches holds
            sample.run()
        asleep = not torch.cuda.current_stream().query()
        for sample in samples[50:]:
            sample.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert asleep


@pytest.mark.parametrize("name", KINDS)
def test_the_current_stream_is_used(name: str, own: None) -> None:
    sample = on_device(name, torch.float32)
    expected = sample.run()
    late = sample.map(torch.zeros_like)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(SLEEP // 10)
        for tensor, values in zip(late.tensors, sample.tensors, strict=True):
            tensor.copy_(values)
        output = late.run()
    stream.synchronize()
    assert torch.equal(output, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
@pytest.mark.parametrize("name", KINDS)
def test_the_device_is_that_of_the_tensors(name: str, own: None) -> None:
    sample = on_device(name, torch.float32).map(lambda x: x.to("cuda:1"))
    assert torch.cuda.current_device() == 0
    check(sample, own=True)
    assert torch.cuda.current_device() == 0


def test_tensors_must_share_a_device() -> None:
    x, w = torch.randn(1, 4, 8, 8, device="cuda"), torch.randn(4, 4, 3, 3)
    with pytest.raises(RuntimeError, match="device"):
        ops.conv2d(x, w)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_a_cuda_graph_computes_anew(name: str, dtype: torch.dtype, own: None) -> None:
    sample = on_device(name, dtype)
    static = sample.map(torch.clone)
    static.run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = static.run()
    for factor in (1.0, -0.5):
        changed = sample.map(lambda x, factor=factor: x * factor)
        for tensor, values in zip(static.tensors, changed.tensors, strict=True):
            tensor.copy_(values)
        graph.replay()
        assert torch.equal(output, changed.run())


def block(x: Tensor, w: Tensor, b: Tensor, spread: Tensor) -> Tensor:
    y = ops.conv2d(x, w, b, padding=1, activation="relu")
    y = ops.conv2d(y, spread, padding=1, groups=16, activation="hardswish", residual=None)
    y = ops.conv2d_pool(y * 2, w, b, padding=1, activation="relu")
    return ops.adaptive_avg_pool2d(ops.max_pool2d(y, 3, 2, 1) + 1, 1)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_compiles_as_one_graph(dtype: torch.dtype, mode: str | None, own: None) -> None:
    pytest.importorskip("triton")
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(0)

    def tensor(*size: int) -> Tensor:
        x = torch.randn(size, generator=generator).to("cuda", dtype)
        return x.contiguous(memory_format=torch.channels_last) if len(size) == 4 else x

    weights = (tensor(16, 16, 3, 3) / 8, tensor(16), tensor(16, 1, 3, 3))
    compiled = torch.compile(block, fullgraph=True, mode=mode)
    with torch.inference_mode():
        for _ in range(3):  # a CUDA graph is recorded by the second call
            x = tensor(2, 16, 20, 18)
            output, expected = compiled(x, *weights).clone(), block(x, *weights)
            unit = torch.finfo(dtype).eps
            scale = expected.abs().max().item()
            torch.testing.assert_close(output, expected, rtol=8 * unit, atol=8 * unit * scale)


@pytest.mark.parametrize("name", KINDS)
def test_each_op_is_traced_as_one_graph(name: str, own: None) -> None:
    torch._dynamo.reset()
    sample = on_device(name, torch.float16)
    compiled = torch.compile(sample.run, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(), sample.run())


@pytest.mark.parametrize("name", KINDS)
def test_fake_kernels_tell_layouts(name: str, own: None) -> None:
    """What a real call returns is laid out as tracing was told."""
    from op_samples import overload_call
    from torch.library import opcheck

    for channels_last in (False, True):
        overload, args, kwargs = overload_call(on_device(name, torch.float16, channels_last))
        opcheck(overload, args, kwargs)


def test_a_launch_that_fails_names_the_case(own: None) -> None:
    sample = on_device("conv2d-channels-last", torch.float32, channels_last=True)
    sample.run()
    torch.cuda.synchronize()
    # An error that nobody asked for is found by whoever launches next.
    torch.cuda.cudart().cudaHostRegister(0, 0, 0)
    with pytest.raises(RuntimeError) as raised:
        sample.run()
    text = str(raised.value).splitlines()[0]
    assert text.startswith("zoo::conv2d: the kernel conv2d could not be launched: ")
    assert "input [2, 8, 9, 9] with strides [648, 1, 72, 8]" in text
    assert "weight [12, 8, 3, 3]" in text
    check(sample, own=True)  # and the device goes on


@pytest.mark.parametrize("op", ["conv2d", "depthwise", "conv2d_pool", "max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "NCHW"])
def test_more_than_two_to_the_31_elements(op: str, channels_last: bool, own: None) -> None:
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] / 2**30
    if free < 10:
        pytest.skip(f"10 GiB of the GPU's memory are needed, {free:.1f} are free")
    format = torch.channels_last if channels_last else torch.contiguous_format
    size = (257, 8, 1024, 1024)
    x = torch.empty(size, dtype=torch.float16, device="cuda", memory_format=format)
    assert x.numel() > 2**31
    x.fill_(-1)
    generator = torch.Generator().manual_seed(0)
    last = torch.randint(-8, 9, (1, *size[1:]), generator=generator) / 4
    x[-1:] = last.to("cuda")
    # Numbers that float16 holds, before and after: results are exact.
    if op in ("max_pool2d", "avg_pool2d"):
        output = getattr(ops, op)(x, 2)
        expected = getattr(torch.nn.functional, op)(last, 2)
    else:
        groups, kernel = (8, 3) if op == "depthwise" else (1, 1)
        w = torch.randint(-4, 5, (8, 8 // groups, kernel, kernel), generator=generator).float()
        run = ops.conv2d_pool if op == "conv2d_pool" else ops.conv2d
        there = w.to("cuda", torch.float16)
        output = run(x, there, padding=kernel // 2, groups=groups, activation="relu")
        expected = torch.nn.functional.conv2d(
            last.double(), w.double(), padding=kernel // 2, groups=groups
        ).relu()
        if op == "conv2d_pool":
            expected = torch.nn.functional.max_pool2d(expected, 2)
    assert torch.equal(output[-1:].cpu().double(), expected.double())
    del x, output
    torch.cuda.empty_cache()
