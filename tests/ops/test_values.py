"""Results against a float64 reference, on every instruction set, without fallback."""

from __future__ import annotations

from typing import Any

import op_samples
import pytest
import torch

from zoo import ops
from zoo.ops import reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", op_samples.names())
def test_matches_the_exact_result(name: str, dtype: torch.dtype, capability: str) -> None:
    op_samples.check(op_samples.by_name(name, dtype))


@pytest.mark.parametrize("dtype", op_samples.DECLINED_DTYPES, ids=str)
@pytest.mark.parametrize("name", op_samples.names())
def test_declined_dtypes_run_the_reference(
    name: str, dtype: torch.dtype, allow_fallback: None
) -> None:
    sample = op_samples.by_name(name, dtype)
    torch.testing.assert_close(sample.run(), sample.expected(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", op_samples.DECLINED_DTYPES, ids=str)
@pytest.mark.parametrize("name", ["conv2d-bias", "conv2d_pool-max", "max_pool2d-2", "avg_pool2d-2"])
def test_declined_dtypes_are_named(name: str, dtype: torch.dtype) -> None:
    sample = op_samples.by_name(name, dtype)
    with pytest.raises(NotImplementedError, match=f"zoo::{sample.op} has no kernel .*float32"):
        sample.run()


def test_complex_convolution_runs_the_reference(allow_fallback: None) -> None:
    x, w = (
        torch.randn(2, 3, 6, 6, dtype=torch.complex64),
        torch.randn(4, 3, 3, 3).to(torch.complex64),
    )
    torch.testing.assert_close(ops.conv2d(x, w), torch.nn.functional.conv2d(x, w))


def packed_call(
    sample: op_samples.Sample, hint: bool = False, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The packed weight of the sample, for its input if ``hint``, and the result of using it."""
    x, w, *args = sample.args
    if x.dim() == 3 or (len(args) > 2 and isinstance(args[2], str)):
        pytest.skip("the packed ops take (N, C, H, W) and numbers only")
    window = args[1:4]
    groups = args[4] if len(args) > 4 else 1
    precision = sample.kwargs.get("precision", "default")
    packed = ops.conv2d_prepack(
        w, groups, *window, input_size=x.shape if hint else None, precision=precision
    )
    assert packed.dim() == 1
    packed_op = ops.conv2d_packed if sample.op == "conv2d" else ops.conv2d_pool_packed
    return packed, packed_op(x, packed, w.shape, *args, **{**sample.kwargs, **options})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [*op_samples.names("conv2d-"), *op_samples.names("conv2d_pool")])
def test_packed_for_all_equals_exact(
    name: str, dtype: torch.dtype, capability: str, allow_fallback: None
) -> None:
    sample = op_samples.by_name(name, dtype)
    _, result = packed_call(sample)
    sample.kwargs["precision"] = "exact"
    error = 1e-12 if dtype == torch.float64 else 0  # plain weights in float64 are PyTorch's
    torch.testing.assert_close(result, sample.run(), rtol=0, atol=error)


@pytest.mark.parametrize("name", [*op_samples.names("conv2d-"), *op_samples.names("conv2d_pool")])
def test_packed_for_its_input(name: str, capability: str) -> None:
    sample = op_samples.by_name(name)
    _, result = packed_call(sample, hint=True)
    error = (result.double() - sample.map(lambda x: x.double()).expected()).abs()
    assert bool((error <= op_samples.error_bound(sample, packed=True)).all()), error.max()


def test_winograd_weights_serve_other_sizes_pools_and_dtypes(
    capability: str, allow_fallback: None
) -> None:
    w, b = torch.randn(35, 17, 3, 3), torch.randn(35)
    for hint, elements in ((30, 36 * 17 * 64), (5, 16 * 17 * 64)):
        packed = ops.conv2d_prepack(w, padding=1, input_size=(1, 17, hint, hint))
        assert packed.numel() == elements
        for size in ((2, 17, 1, 1), (1, 17, 2, 9), (3, 17, 13, 12), (0, 17, 8, 8)):
            x = torch.randn(size)
            result = ops.conv2d_packed(x, packed, w.shape, b, padding=1)
            torch.testing.assert_close(result, reference.conv2d(x, w, b, 1, 1), rtol=0, atol=2e-4)
        for kind in ("max", "avg"):
            args = (b, 1, 1, 1, 1)
            pool = {"pool": kind, "pool_kernel": 3, "pool_stride": 2, "pool_padding": 1}
            for layout in (torch.contiguous_format, torch.channels_last):
                x = torch.randn(2, 17, 11, 12).contiguous(memory_format=layout)
                result = ops.conv2d_pool_packed(x, packed, w.shape, *args, **pool)
                expected = reference.conv2d_pool(x, w, *args, **pool)
                torch.testing.assert_close(result, expected, rtol=0, atol=2e-4)
                assert result.stride() == expected.stride()
        x = torch.randn(2, 17, 11, 12)
        expected = reference.conv2d(x, w, b)
        for dtype, error in ((torch.float64, 1e-4), (torch.bfloat16, 1.0)):
            tensors = (tensor.to(dtype) for tensor in (x, packed))
            result = ops.conv2d_packed(*tensors, w.shape, b.to(dtype))
            assert result.dtype == dtype
            torch.testing.assert_close(result.float(), expected, rtol=0, atol=error)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_packed_layouts_agree(groups: int, capability: str, allow_fallback: None) -> None:
    """The kernels' packing and the reference's, which serves other dtypes, are the same layout."""
    for out in (6, 66, 192):
        weight = torch.randn(out, 6 // groups, 2, 3)
        ours = ops.conv2d_prepack(weight, groups)
        theirs = ops.conv2d_prepack(weight.to(torch.complex64), groups)
        assert torch.equal(ours, theirs.real)


@pytest.mark.parametrize("name", op_samples.names())
def test_nan_and_infinity_propagate(name: str, capability: str) -> None:
    """Where the reference has NaN or Inf, and only there, so has the op, unless by Winograd."""
    sample = op_samples.by_name(name)
    if sample.op.startswith("conv2d"):
        sample.kwargs["precision"] = "exact"
    if sample.args[0].numel() == 0:
        pytest.skip("nothing to spoil")
    for value in (float("nan"), float("inf"), -float("inf")):
        spoilt = sample.map(torch.clone)
        x = spoilt.args[0].contiguous()
        x.view(-1)[x.numel() // 2] = value
        spoilt.args = (x, *spoilt.args[1:])
        # In float64: PyTorch's gelu of infinity in float32 is NaN on processors with AVX-512.
        result, expected = spoilt.run(), spoilt.map(torch.Tensor.double).expected()
        if isinstance(result, tuple):
            result, expected = result[0], expected[0]
        assert torch.equal(result.isnan(), expected.isnan())
        assert torch.equal(result.isposinf(), expected.isposinf())
        assert torch.equal(result.isneginf(), expected.isneginf())


@pytest.mark.parametrize(("side", "packed_for", "points"), [(30, 30, 36), (12, 5, 16)])
def test_winograd_keeps_nan_and_infinity_in_their_tiles(
    side: int, packed_for: int, points: int, capability: str
) -> None:
    """No output that depends on them is finite; beyond a tile's reach nothing changes."""
    w = torch.randn(32, 16, 3, 3)
    packed = ops.conv2d_prepack(w, padding=1, input_size=(1, 16, packed_for, packed_for))
    assert packed.numel() == points * w[..., 0, 0].numel()
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(1, 16, side, side).contiguous(memory_format=layout)
        before = ops.conv2d_packed(x, packed, w.shape, padding=1)
        for value in (float("nan"), float("inf"), -float("inf")):
            spoilt = x.clone()
            spoilt[0, 3, 9, 7] = value
            result = ops.conv2d_packed(spoilt, packed, w.shape, padding=1)
            assert not bool(result[:, :, 8:11, 6:9].isfinite().any())
            near = torch.zeros_like(result, dtype=torch.bool)
            near[:, :, 4:15, 2:13] = True
            assert torch.equal(result[~near], before[~near])
        spoilt[0, 3, 9, 7] = float("nan")
        pooled = ops.conv2d_pool_packed(spoilt, packed, w.shape, padding=1)
        assert bool(pooled[:, :, 4:6, 3:5].isnan().all())


def test_nan_in_bias_weight_and_residual(capability: str) -> None:
    sample = op_samples.by_name("conv2d-relu")
    for index in (1, 2):
        args = [arg.clone() if torch.is_tensor(arg) else arg for arg in sample.args]
        args[index].view(-1)[-1] = float("nan")
        result = ops.conv2d(*args, **sample.kwargs)
        assert bool(result[:, -1].isnan().any())
        assert not bool(result[:, :-1].isnan().any())
    residual = sample.kwargs["residual"].clone()
    residual[0, 3, 2, 1] = float("nan")
    result = ops.conv2d(*sample.args, activation="relu", residual=residual)
    assert result.isnan().nonzero().tolist() == [[0, 3, 2, 1]]


def test_max_pool_of_equal_values_takes_the_first(capability: str) -> None:
    x = torch.zeros(1, 2, 6, 6)
    result = ops.max_pool2d(x, 3, 2, 1, return_indices=True)
    expected = reference.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert torch.equal(result[1], expected[1])


def test_activations_far_from_zero(capability: str) -> None:
    """Saturation, overflow of exp, and small numbers, where polynomial approximations go wrong."""
    values = torch.cat([torch.linspace(-120, 120, 4001), torch.logspace(-30, 0, 400)])
    x = values.reshape(1, 1, 1, -1)
    weight = torch.ones(1, 1, 1, 1)
    for activation in ops.ACTIVATIONS:
        result = ops.conv2d(x, weight, activation=activation).double()
        exact = reference.ACTIVATIONS[activation](x.double())
        error = (result - exact).abs()
        # Relative to the result, and where that is tiny, to float32's rounding of 1.
        assert bool((error <= 4e-7 * exact.abs() + 1.2e-7).all()), (activation, error.max())
