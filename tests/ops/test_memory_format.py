"""The output's layout is a function of the inputs' layouts, the same in fake and real kernels."""

from __future__ import annotations

import op_samples
import pytest
import torch
from torch._subclasses import FakeTensorMode

from zoo import ops


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", op_samples.names())
def test_fake_strides_equal_real_strides(
    name: str, dtype: torch.dtype, allow_fallback: None
) -> None:
    sample = op_samples.by_name(name, dtype)
    real = sample.run()
    with FakeTensorMode() as mode:
        fake = sample.map(mode.from_tensor).run()
    pairs = zip(real, fake, strict=True) if isinstance(real, tuple) else [(real, fake)]
    for one, other in pairs:
        assert one.shape == other.shape
        assert one.stride() == other.stride()
        assert one.dtype == other.dtype


def last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("input_last", [False, True])
@pytest.mark.parametrize("weight_last", [False, True])
def test_convolution_follows_input_and_weight(input_last: bool, weight_last: bool) -> None:
    x, w = torch.randn(2, 4, 6, 6), torch.randn(8, 4, 3, 3)
    x, w = last(x) if input_last else x, last(w) if weight_last else w
    output = ops.conv2d(x, w)
    assert output.is_contiguous(memory_format=torch.channels_last) == (input_last or weight_last)
    assert output.stride() == torch.nn.functional.conv2d(x, w).stride()
    pooled = ops.conv2d_pool(x, w)
    assert pooled.is_contiguous(memory_format=torch.channels_last) == (input_last or weight_last)
    packed = ops.conv2d_packed(x, ops.conv2d_prepack(w), w.shape)
    assert packed.is_contiguous(memory_format=torch.channels_last) == input_last


def test_pools_follow_their_input() -> None:
    x = torch.randn(2, 4, 6, 6)
    for op in (ops.max_pool2d, ops.avg_pool2d, ops.adaptive_avg_pool2d):
        assert op(x, 2).is_contiguous()
        assert op(last(x), 2).is_contiguous(memory_format=torch.channels_last)


def test_meta_tensors() -> None:
    for sample in op_samples.samples():
        real, meta = sample.run(), sample.map(lambda x: x.to("meta")).run()
        if isinstance(real, tuple):
            real, meta = real[1], meta[1]
        assert meta.device.type == "meta"
        assert meta.shape == real.shape
        assert meta.dtype == real.dtype
