"""zoo.ops.scale_shift and zoo.ops.linear against PyTorch's own compositions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo import ops
from zoo.ops.reference import ACTIVATIONS

SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None, tuple[int, ...] | None]] = {
    "batch norm": ((2, 37, 5, 6), (1, 37, 1, 1), (37, 1, 1)),
    "gate": ((2, 37, 5, 6), (2, 37, 1, 1), None),
    "sum": ((2, 37, 5, 6), None, (2, 37, 5, 6)),
    "gate and sum": ((2, 37, 5, 6), (2, 37, 1, 1), (2, 37, 5, 6)),
    "map": ((2, 37, 5, 6), (2, 1, 5, 6), None),
    "alone": ((3, 70), None, None),
    "vector": ((7, 33), (33,), (7, 1)),
    "scalar": ((), (), ()),
    "five dimensions": ((2, 3, 2, 3, 4), (4,), (3, 1, 1, 1)),
    "empty": ((0, 3, 4, 4), (3, 1, 1), None),
}


def reference(x: Tensor, scale: Tensor | None, shift: Tensor | None, activation: str) -> Tensor:
    x = x if scale is None else x * scale
    return ACTIVATIONS[activation](x if shift is None else x + shift)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("activation", ["none", "relu", "hardsigmoid"])
def test_scale_shift(
    name: str,
    channels_last: bool,
    activation: str,
    capability: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZOO_FALLBACK", "aten" if name == "five dimensions" else "error")
    generator = torch.Generator().manual_seed(5)
    x, scale, shift = (
        None if shape is None else torch.randn(shape, generator=generator) for shape in SHAPES[name]
    )
    assert x is not None
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    got = ops.scale_shift(x, scale, shift, activation=activation)  # type: ignore[arg-type]
    torch.testing.assert_close(got, reference(x, scale, shift, activation))
    assert got.stride() == torch.empty_like(x).stride()
    assert got.numel() == 0 or got.data_ptr() != x.data_ptr()


def test_scale_shift_has_gradients() -> None:
    x, scale, shift = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 2, 2), (3, 1, 1), (2, 3, 2, 2))
    )
    assert torch.autograd.gradcheck(
        lambda *args: ops.scale_shift(*args, activation="silu"), (x, scale, shift)
    )


def test_scale_shift_refuses_what_does_not_broadcast() -> None:
    x = torch.randn(2, 3, 4, 4)
    with pytest.raises(RuntimeError, match="does not broadcast to input's"):
        ops.scale_shift(x, torch.randn(2, 1, 1))
    with pytest.raises(RuntimeError, match="does not broadcast to input's"):
        ops.scale_shift(x[:1], shift=x)
    with pytest.raises(RuntimeError, match="scale is Double"):
        ops.scale_shift(x, torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (0,)])
def test_linear(batch: tuple[int, ...], capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_FALLBACK", "error")
    x, weight, bias = torch.randn(*batch, 19), torch.randn(33, 19), torch.randn(33)
    residual = torch.randn(*batch, 33)
    torch.testing.assert_close(ops.linear(x, weight, bias), F.linear(x, weight, bias))
    got = ops.linear(x, weight, activation="gelu", residual=residual)
    torch.testing.assert_close(got, F.gelu(F.linear(x, weight) + residual))


def test_linear_has_gradients() -> None:
    x, weight = (torch.randn(4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(
        lambda *args: ops.linear(*args, activation="tanh"), (x, weight[:, :5])
    )


def test_linear_refuses_what_does_not_fit() -> None:
    with pytest.raises(RuntimeError, match=r"must be \(O, C\)"):
        ops.linear(torch.randn(2, 3), torch.randn(4, 5))
    with pytest.raises(RuntimeError, match="residual must have the output's shape"):
        ops.linear(torch.randn(2, 3), torch.randn(4, 3), residual=torch.randn(4))


def test_they_trace() -> None:
    x, scale, weight = torch.randn(2, 3, 4, 4), torch.randn(3, 1, 1), torch.randn(5, 4)
    for op, args in (("scale_shift", (x, scale)), ("linear", (x, weight))):
        torch.library.opcheck(getattr(torch.ops.zoo, op).default, args)
