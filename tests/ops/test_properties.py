"""Any shape, stride, padding, dilation, grouping and layout."""

from __future__ import annotations

from typing import Any

import op_samples
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from zoo import ops

few = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def layouts(draw: st.DrawFn, size: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A random tensor: contiguous, channels_last, a slice of something larger, or expanded."""
    kind = draw(st.sampled_from(["contiguous", "channels_last", "slice", "expanded", "permuted"]))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)

    def make(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=dtype)

    if kind == "channels_last":
        return make(*size).contiguous(memory_format=torch.channels_last)
    if kind == "slice":
        n, c, h, w = size
        return make(n + 1, 2 * c, h + 2, 3 * w)[1:, ::2, 1:-1, 1::3]
    if kind == "expanded":
        n, c, h, w = size
        return make(1, c, 1, w).expand(n, c, h, w)
    if kind == "permuted":
        n, c, h, w = size
        return make(w, c, n, h).permute(2, 1, 3, 0)
    return make(*size)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw: st.DrawFn, pooled: bool) -> op_samples.Sample:
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    in_group = draw(st.sampled_from([1, 1, 2, 3, 17]))
    out_group = draw(st.sampled_from([1, 1, 2, 5, 33]))
    kernel, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    map_size = draw(st.tuples(st.integers(1, 12), st.integers(1, 20)))
    batch = draw(st.integers(0, 3))
    out = [
        (m + 2 * p - d * (k - 1) - 1) // s + 1
        for m, p, d, k, s in zip(map_size, padding, dilation, kernel, stride, strict=True)
    ]
    assume(min(out) > 0)
    x = draw(layouts((batch, groups * in_group, *map_size), dtype))
    w = draw(layouts((groups * out_group, in_group, *kernel), dtype))
    bias = torch.randn(groups * out_group, dtype=dtype) if draw(st.booleans()) else None
    options: dict[str, Any] = {"activation": draw(st.sampled_from(ops.ACTIVATIONS))}
    args = (x, w, bias, stride, padding, dilation, groups)
    if not pooled:
        if draw(st.booleans()):
            options["residual"] = draw(layouts((batch, groups * out_group, *out), dtype))
        return op_samples.Sample("random", "conv2d", args, options)
    pool_kernel = draw(pairs)
    pool_padding = tuple(draw(st.integers(0, size // 2)) for size in pool_kernel)
    assume(all(o + 2 * p >= k for o, p, k in zip(out, pool_padding, pool_kernel, strict=True)))
    options |= {
        "pool": draw(st.sampled_from(["max", "avg"])),
        "pool_kernel": pool_kernel,
        "pool_stride": draw(st.none() | pairs),
        "pool_padding": pool_padding,
    }
    return op_samples.Sample("random", "conv2d_pool", args, options)


@few
@given(sample=convolutions(pooled=False))
def test_conv2d(capability: str, sample: op_samples.Sample) -> None:
    op_samples.check(sample)


@few
@given(sample=convolutions(pooled=True))
def test_conv2d_pool(capability: str, sample: op_samples.Sample) -> None:
    op_samples.check(sample)


@few
@given(data=st.data())
def test_pools(capability: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    size = data.draw(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([1, 3, 8, 33]),
            st.integers(1, 12),
            st.integers(1, 20),
        )
    )
    kernel, stride = data.draw(pairs), data.draw(st.none() | pairs)
    padding = tuple(data.draw(st.integers(0, extent // 2)) for extent in kernel)
    ceil_mode = data.draw(st.booleans())
    assume(all(m + 2 * p >= k for m, p, k in zip(size[2:], padding, kernel, strict=True)))
    x = data.draw(layouts(size, dtype))
    for return_indices in (False, True):
        args = (x, kernel, stride, padding, 1, ceil_mode, return_indices)
        if return_indices:
            args_kwargs: dict[str, Any] = {"return_indices": True}
            sample = op_samples.Sample("random", "max_pool2d", args[:-1], args_kwargs)
        else:
            sample = op_samples.Sample("random", "max_pool2d", args[:-1])
        op_samples.check(sample)
    include, divisor = data.draw(st.booleans()), data.draw(st.none() | st.integers(1, 9))
    args = (x, kernel, stride, padding, ceil_mode, include, divisor)
    op_samples.check(op_samples.Sample("random", "avg_pool2d", args))
