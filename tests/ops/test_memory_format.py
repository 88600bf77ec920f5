"""The output's layout is a function of the inputs' layouts, the same in fake and real kernels."""

from __future__ import annotations

import itertools

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


def strided(tensor: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """In a format by its strides too, where axes of one leave them open."""
    return torch.empty_like(tensor, memory_format=memory_format).copy_(tensor)


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


@pytest.mark.parametrize("size", [(4, 3, 1, 1), (4, 1, 1, 1), (1, 3, 1, 2), (1, 1, 2, 1)])
@pytest.mark.parametrize("filters", [1, 6])
def test_maps_of_a_pixel_or_a_channel_have_the_strides_that_are_told(
    size: tuple[int, ...], filters: int, allow_fallback: None
) -> None:
    """Any stride will do for an axis of one, so that formats are ambiguous."""
    x, w = torch.randn(size), torch.randn(filters, size[1], 1, 1)
    options = {"bn_weight": None, "bn_bias": None, "eps": 1e-5, "activation": "relu"}
    formats = torch.contiguous_format, torch.channels_last
    for x_format, w_format in itertools.product(formats, repeat=2):
        call = (strided(x, x_format), strided(w, w_format), None, [1, 1], [0, 0], [1, 1], 1)
        with FakeTensorMode() as mode:
            fakes = [mode.from_tensor(each) if torch.is_tensor(each) else each for each in call]
        for op, more in (("conv2d", {"activation": "relu"}), ("conv2d_batch_norm", options)):
            op = getattr(torch.ops.zoo, op)
            with mode:
                told = op(*fakes, **more, precision="default")
            made = op(*call, **more, precision="default")
            if torch.is_tensor(made):
                made, told = (made,), (told,)
            assert [each.stride() for each in made] == [each.stride() for each in told]


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
