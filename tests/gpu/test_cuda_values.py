"""Every op on a GPU against float64 on the processor: zoo's kernels, and what zoo chooses."""

from __future__ import annotations

from functools import cache

import op_samples
import pytest
import torch
from cuda_device import DECLINED, DTYPES, TAKEN, check, exact, on_device
from op_samples import Sample
from torch import Tensor

from zoo import ops
from zoo.ops import reference

LAYOUTS = (False, True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", TAKEN)
def test_own_kernels(name: str, dtype: torch.dtype, own: None) -> None:
    for channels_last in LAYOUTS:
        check(on_device(name, dtype, channels_last), own=True)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("name", op_samples.names())
def test_what_zoo_chooses(name: str, dtype: torch.dtype) -> None:
    for channels_last in LAYOUTS:
        check(on_device(name, dtype, channels_last), own=False)


@pytest.mark.parametrize("name", sorted(DECLINED))
def test_a_want_of_a_kernel_is_named(name: str, own: None) -> None:
    with pytest.raises(NotImplementedError, match=r"zoo::\w+ has no kernel for this case: "):
        on_device(name, torch.float32).run()


def test_float64_has_no_kernel(own: None) -> None:
    with pytest.raises(NotImplementedError, match="no kernel for this dtype"):
        on_device("conv2d-plain", torch.float64).run()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_epilogues_of_whole_vectors(activation: str, dtype: torch.dtype, own: None) -> None:
    """Channels that are multiples of 16 bytes, which are loaded and stored at once."""
    generator = torch.Generator().manual_seed(1)

    def tensor(*size: int) -> Tensor:
        x = torch.randn(size, generator=generator).to("cuda", dtype)
        return x.contiguous(memory_format=torch.channels_last) if len(size) == 4 else x

    x, w, b = tensor(2, 32, 13, 11), tensor(40, 32, 3, 3) / 8, tensor(40)
    options = {"activation": activation}
    residual = tensor(2, 40, 13, 11)
    args = (x, w, b, 1, 1)
    check(Sample("bias", "conv2d", args, options), own=True)
    check(Sample("residual", "conv2d", args, {**options, "residual": residual}), own=True)
    for pool in ("max", "avg"):
        for size in ({"pool_kernel": 2}, {"pool_kernel": 3, "pool_stride": 2, "pool_padding": 1}):
            kwargs = {**options, "pool": pool, **size}
            check(Sample("pool", "conv2d_pool", args, kwargs), own=True)
    for kernel in (3, 5, 7):
        for stride in (1, 2):
            w, b = tensor(32, 1, kernel, kernel), tensor(32)
            args = (x, w, b, stride, kernel // 2, 1, 32)
            check(Sample("depthwise", "conv2d", args, options), own=True)


# Large enough for the large tiles on any device; with a pool, cut into rectangles.
LAYERS = {
    "3x3": ((16, 64, 56, 56), (64, 64, 3, 3), 1, 1, 1, None),
    "3x3 with stride 2": ((16, 64, 112, 112), (72, 64, 3, 3), 2, 1, 1, None),
    "1x1": ((16, 64, 56, 56), (256, 64, 1, 1), 1, 0, 1, None),
    "groups": ((16, 128, 56, 56), (128, 64, 3, 3), 1, 1, 2, None),
    "3x3 and a pool": ((16, 64, 56, 56), (64, 64, 3, 3), 1, 1, 1, (2, 2, 0)),
    "stem": ((8, 3, 224, 224), (64, 3, 7, 7), 2, 3, 1, (3, 2, 1)),
    "depthwise 3x3": ((8, 96, 57, 55), (96, 1, 3, 3), 1, 1, 96, None),
    "depthwise 7x7": ((8, 96, 57, 55), (96, 1, 7, 7), 2, 3, 96, None),
}


@cache
def layer(name: str) -> tuple[Sample, Tensor]:
    """A layer on the processor and its result, in numbers that every type holds.

    They are multiples of 1/4 up to 2, and sums of their products have few enough digits for
    float32, so that results are rounded only where they are stored, whatever the order.
    """
    size, weight, stride, padding, groups, pool = LAYERS[name]
    generator = torch.Generator().manual_seed(2)

    def tensor(*size: int) -> Tensor:
        return torch.randint(-8, 9, size, generator=generator) / 4

    args = (tensor(*size), tensor(*weight), tensor(weight[0]), stride, padding, 1, groups)
    if pool is None:
        sample = Sample(name, "conv2d", args, {"activation": "relu"})
    else:
        kernel, step, edge = pool
        options = {"pool_kernel": kernel, "pool_stride": step, "pool_padding": edge}
        sample = Sample(name, "conv2d_pool", args, {"activation": "relu", **options})
    return sample, exact(sample).expected()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_networks_are_exact(name: str, dtype: torch.dtype, own: None) -> None:
    sample, expected = layer(name)
    for format in (torch.contiguous_format, torch.channels_last):

        def place(x: Tensor, format: torch.memory_format = format) -> Tensor:
            there = x.to("cuda", dtype)
            return there.contiguous(memory_format=format) if x.dim() == 4 else there

        output = sample.map(place).run()
        assert torch.equal(output.cpu(), expected.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_infinity_are_as_in_pytorch(dtype: torch.dtype, own: None) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 16, 12, 12, generator=generator).to(dtype)
    x[0, 3, 4, 5], x[1, 7, 8, 9] = torch.nan, torch.inf
    w = torch.randn(8, 16, 3, 3, generator=generator).to(dtype)
    for channels_last in LAYOUTS:
        format = torch.channels_last if channels_last else torch.contiguous_format
        there = [t.to("cuda").contiguous(memory_format=format) for t in (x, w)]
        for activation in ("none", "relu", "leaky_relu", "hardswish"):
            output = ops.conv2d(*there, padding=1, activation=activation).cpu()
            expected = reference.conv2d(x.double(), w.double(), padding=1, activation=activation)
            assert torch.equal(output.isnan(), expected.isnan()), activation
            assert torch.equal(output == torch.inf, expected == torch.inf), activation
        pooled = ops.max_pool2d(there[0], 3, 2, 1).cpu()
        torch.testing.assert_close(
            pooled, torch.nn.functional.max_pool2d(x, 3, 2, 1), rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ops_without_a_kernel_run_pytorchs(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)

    def tensor(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to("cuda", dtype)

    x, w, b = tensor(2, 8, 9, 9), tensor(6, 8, 3, 3), tensor(6)
    rtol = max(8 * torch.finfo(dtype).eps, 1e-5)

    def close(output: Tensor, expected: Tensor) -> None:
        assert output.is_cuda
        assert output.dtype == dtype
        atol = rtol * expected.abs().max().item()
        torch.testing.assert_close(output.cpu().double(), expected, rtol=rtol, atol=atol)

    plain = exact(Sample("plain", "conv2d", (x, w, b, 1, 1), {"activation": "relu"})).expected()
    packed = ops.conv2d_prepack(w)
    close(ops.conv2d_packed(x, packed, w.shape, b, 1, 1, activation="relu"), plain)
    pooled = ops.conv2d_pool_packed(x, packed, w.shape, b, 1, 1, activation="relu")
    close(pooled, torch.nn.functional.max_pool2d(plain, 2))

    rows, matrix = tensor(3, 8), tensor(6, 8)
    lined = rows.cpu().double() @ matrix.cpu().double().T + b.cpu().double()
    close(ops.linear(rows, matrix, b, activation="relu"), lined.relu())

    scale, shift = tensor(8, 1, 1), tensor(8, 1, 1)
    scaled = x.cpu().double() * scale.cpu().double() + shift.cpu().double()
    close(ops.scale_shift(x, scale, shift, activation="relu"), scaled.relu())


def test_autocast() -> None:
    generator = torch.Generator().manual_seed(5)
    x, w, b = (
        torch.randn(size, generator=generator, device="cpu").cuda()
        for size in ((2, 8, 9, 9), (8, 8, 3, 3), (8,))
    )
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cuda", dtype):
            output = ops.conv2d(x, w, b, padding=1, activation="relu")
            pooled = ops.conv2d_pool(x, w, b, padding=1, activation="relu")
        assert output.dtype == pooled.dtype == dtype
        cast = [t.to(dtype) for t in (x, w, b)]
        assert torch.equal(output, ops.conv2d(*cast, padding=1, activation="relu"))
        assert torch.equal(pooled, ops.conv2d_pool(*cast, padding=1, activation="relu"))
