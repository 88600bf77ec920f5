"""Linear layers on packed weights, beside float64 and PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo import ops
from zoo.ops import reference


def tensors(batch: tuple[int, ...], channels: int, out: int, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(channels + out)
    shapes = ((*batch, channels), (out, channels), (out,))
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [(), (0,), (1,), (2,), (3,), (7,), (32,), (2, 3)], ids=str)
@pytest.mark.parametrize(("channels", "out"), [(1, 1), (64, 10), (513, 70), (1280, 33)])
def test_matches_the_exact_result(
    channels: int, out: int, batch: tuple[int, ...], dtype: torch.dtype, capability: str
) -> None:
    x, weight, bias = tensors(batch, channels, out, dtype)
    packed = ops.linear_prepack(weight)
    exact = F.linear(x.double(), weight.double(), bias.double())
    got = ops.linear_packed(x, packed, weight.shape, bias)
    assert got.shape == exact.shape
    assert got.dtype == dtype
    eps = 1e-6 if dtype == torch.float32 else 1e-14
    bound = eps * F.linear(x.double().abs(), weight.double().abs(), bias.double().abs())
    assert ((got.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_activations(activation: ops.Activation, capability: str) -> None:
    x, weight, bias = tensors((2,), 300, 40, torch.float64)
    got = ops.linear_packed(
        x, ops.linear_prepack(weight), weight.shape, bias, activation=activation
    )
    expected = reference.ACTIVATIONS[activation](F.linear(x, weight, bias))
    torch.testing.assert_close(got, expected)


def test_strided_inputs_and_no_bias(capability: str) -> None:
    x, weight, _ = tensors((4,), 40, 20, torch.float32)
    packed = ops.linear_prepack(weight)
    wide = torch.randn(4, 80)
    torch.testing.assert_close(
        ops.linear_packed(wide[:, ::2], packed, weight.shape), F.linear(wide[:, ::2], weight)
    )
    turned = x.t().contiguous().t()
    torch.testing.assert_close(ops.linear_packed(turned, packed, weight.shape), F.linear(x, weight))


def test_compiles_in_one_piece() -> None:
    x, weight, bias = tensors((3,), 40, 20, torch.float32)
    packed = ops.linear_prepack(weight)

    def call(x: torch.Tensor) -> torch.Tensor:
        return ops.linear_packed(x, packed, weight.shape, bias, activation="relu")

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), call(x))


def test_errors_name_the_shapes() -> None:
    x, weight, bias = tensors((3,), 40, 20, torch.float32)
    packed = ops.linear_prepack(weight)
    with pytest.raises(RuntimeError, match=r"takes \(\.\.\., 40\), but input's shape is \[3, 39\]"):
        ops.linear_packed(x[:, 1:], packed, weight.shape)
    with pytest.raises(RuntimeError, match=r"input's shape is \[\]"):
        ops.linear_packed(torch.tensor(1.0), packed, weight.shape)
    with pytest.raises(RuntimeError, match=r"2 dimensions \(O, C\), not 1; its shape is \[20\]"):
        ops.linear_prepack(bias)
    with pytest.raises(RuntimeError, match=r"bias must have shape \[20\]"):
        ops.linear_packed(x, packed, weight.shape, bias[1:])
    with pytest.raises(RuntimeError, match="linear_prepack"):
        ops.linear_packed(x, packed[1:], weight.shape)
    with pytest.raises(ValueError, match="unknown activation"):
        ops.linear_packed(x, packed, weight.shape, activation="swish")  # type: ignore[arg-type]


def test_gradients_are_refused() -> None:
    x, weight, _ = tensors((3,), 40, 20, torch.float32)
    packed = ops.linear_prepack(weight)
    with pytest.raises(RuntimeError, match="grad"):
        ops.linear_packed(x.requires_grad_(), packed, weight.shape)
