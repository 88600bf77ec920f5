"""``conv2d_batch_norm`` against PyTorch's own modules, and its errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from zoo import ops
from zoo.ops import reference

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"stride": 2, "padding": (1, 2), "dilation": 2},
    "groups": {"groups": 2, "padding": 1},
    "same": {"padding": "same"},
    "exact": {"precision": "exact", "padding": 1},
}


@pytest.fixture(autouse=True)
def seed(allow_fallback: None) -> None:
    torch.manual_seed(0)


def tensors(groups: int = 1, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    shapes = {
        "input": (3, 4, 7, 9), "weight": (6, 4 // groups, 3, 3), "bias": (6,), "bn_weight": (6,),
        "bn_bias": (6,),
    }  # fmt: skip
    return {name: torch.randn(shape, dtype=dtype) for name, shape in shapes.items()}


def plain(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    bn_weight: Tensor | None = None,
    bn_bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: str = "none",
    residual: Tensor | None = None,
    precision: str = "default",
    **window: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    y = F.conv2d(input, weight, bias, **window)
    mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
    y = F.batch_norm(y, None, None, bn_weight, bn_bias, True, 0.0, eps)
    y = y if residual is None else y + residual
    return reference.ACTIVATIONS[activation](y), mean, variance


def close(ours: Any, theirs: Any, dtype: torch.dtype = torch.float64) -> None:
    bound = 1e-10 if dtype is torch.float64 else 1e-3
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("absent", [(), ("bias",), ("bn_weight",), ("bn_weight", "bn_bias")])
@pytest.mark.parametrize("name", OPTIONS)
def test_values_and_gradients(name: str, absent: tuple[str, ...], dtype: torch.dtype) -> None:
    options = OPTIONS[name]
    given = tensors(options.get("groups", 1), dtype)
    leaves = {key: value.requires_grad_() for key, value in given.items() if key not in absent}
    results = []
    for op in (ops.conv2d_batch_norm, plain):
        output, mean, variance = op(**leaves, **options, activation="relu", eps=1e-3)
        weights = torch.linspace(-1, 1, output.numel(), dtype=dtype).view_as(output)
        grads = torch.autograd.grad((output * weights).sum(), list(leaves.values()))
        results.append((output, mean, variance, *grads))
    close(*results, dtype)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_activations(activation: ops.Activation, residual: bool) -> None:
    given = tensors()
    if residual:
        given["residual"] = torch.randn(3, 6, 5, 7, dtype=torch.float64)
    close(
        ops.conv2d_batch_norm(**given, activation=activation),
        plain(**given, activation=activation),
    )


def test_gradcheck() -> None:
    leaves = [value[:2].clone().requires_grad_() for value in tensors().values()]
    residual = torch.randn(2, 2, 5, 7, dtype=torch.float64, requires_grad=True)

    def call(*leaves: Tensor) -> Tensor:
        input, weight, bias, bn_weight, bn_bias, residual = leaves
        return ops.conv2d_batch_norm(
            input,
            weight,
            bias,
            bn_weight=bn_weight,
            bn_bias=bn_bias,
            residual=residual,
            activation="tanh",
        )[0]

    assert gradcheck(call, (*leaves, residual), fast_mode=True)
    assert gradgradcheck(call, (*leaves, residual), fast_mode=True)


def test_statistics_are_not_differentiable() -> None:
    given = {name: value.requires_grad_() for name, value in tensors().items()}
    output, mean, variance = ops.conv2d_batch_norm(**given)
    assert output.requires_grad
    assert not mean.requires_grad
    assert not variance.requires_grad


def test_one_image() -> None:
    given = tensors()
    given["input"] = given["input"][0]
    output, *statistics = ops.conv2d_batch_norm(**given)
    given["input"] = given["input"][None]
    expected, *others = ops.conv2d_batch_norm(**given)
    close([output, *statistics], [expected[0], *others])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_half_precision(affine: bool, compiled: bool) -> None:
    given = tensors(dtype=torch.float32)
    half = {name: value.bfloat16() for name, value in given.items() if "bn" not in name}
    if affine:
        half |= {name: value for name, value in given.items() if "bn" in name}
    torch._dynamo.reset()
    op = ops.conv2d_batch_norm
    op = torch.compile(op, fullgraph=True, backend="aot_eager") if compiled else op
    output, mean, variance = op(**half)
    assert (output.dtype, mean.dtype, variance.dtype) == (
        torch.bfloat16, torch.float32, torch.float32,
    )  # fmt: skip
    expected = plain(**{name: value.float() for name, value in half.items()})
    torch.testing.assert_close(output.float(), expected[0], rtol=0.1, atol=0.1)


def test_autocast() -> None:
    given = tensors(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, mean, _ = ops.conv2d_batch_norm(**given)
        residual = ops.conv2d_batch_norm(**given, residual=output.float())[0]
    assert (output.dtype, mean.dtype) == (torch.bfloat16, torch.float32)
    assert residual.dtype is torch.bfloat16


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    ("dtype", "format", "window", "reason"),
    [
        (torch.float32, torch.contiguous_format, {}, "take channels_last only"),
        (torch.float64, torch.contiguous_format, {}, "take channels_last only"),
        (torch.bfloat16, torch.channels_last, {}, "no kernel for this dtype"),
        (torch.float32, torch.channels_last, {"padding": 3}, "padding beyond the window"),
    ],
    ids=str,
)
def test_what_no_kernel_takes_is_an_error_where_it_is_to_be(
    dtype: torch.dtype,
    format: torch.memory_format,
    window: dict[str, Any],
    reason: str,
    grad: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {name: value.to(dtype) for name, value in tensors().items()}
    given = {name: value.requires_grad_(grad) for name, value in given.items()}
    given["input"] = given["input"].contiguous(memory_format=format)
    ops.conv2d_batch_norm(**given, **window)
    monkeypatch.setenv("ZOO_FALLBACK", "error")
    with pytest.raises(
        NotImplementedError, match=f"zoo::conv2d_batch_norm has no kernel for this case: .*{reason}"
    ):
        ops.conv2d_batch_norm(**given, **window)


def test_autocast_is_an_error_where_it_is_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_FALLBACK", "error")
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(NotImplementedError, match="no kernel for this dtype"),
    ):
        ops.conv2d_batch_norm(**tensors(dtype=torch.float32))


@pytest.mark.parametrize("last", ["input", "weight", None])
def test_memory_format(last: str | None) -> None:
    given = tensors()
    if last:
        given[last] = given[last].contiguous(memory_format=torch.channels_last)
    output = ops.conv2d_batch_norm(**given)[0]
    format = torch.channels_last if last else torch.contiguous_format
    assert output.is_contiguous(memory_format=format)


def test_compile_and_meta() -> None:
    torch._dynamo.reset()
    given = tensors()
    compiled = torch.compile(ops.conv2d_batch_norm, fullgraph=True, backend="aot_eager")
    close(compiled(**given), ops.conv2d_batch_norm(**given))
    shapes = ops.conv2d_batch_norm(**{name: value.to("meta") for name, value in given.items()})
    assert [each.shape for each in shapes] == [(3, 6, 5, 7), (6,), (6,)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activation": "softmax"}, ValueError, 'unknown activation "softmax"; known are none, '),
        ({"activation": 3}, TypeError, "activation must be a name"),
        ({"precision": "low"}, ValueError, 'unknown precision "low"'),
        ({"padding": "full"}, ValueError, 'unknown padding "full"'),
        ({"stride": 0}, RuntimeError, "stride"),
        ({"stride": 1.5}, TypeError, "whole number|must be"),
        ({"groups": 3}, RuntimeError, "groups=3 does not divide"),
        ({"eps": -1.0}, ValueError, r"eps must be at least 0, not -1\.0"),
        ({"eps": float("nan")}, ValueError, "eps must be at least 0, not nan"),
        ({"bias": torch.zeros(5)}, RuntimeError, r"bias must have shape \[6\], not \[5\]"),
        ({"bn_weight": torch.zeros(6, 1)}, RuntimeError, "bn_weight must have shape"),
        ({"bn_bias": torch.zeros(1)}, RuntimeError, "bn_bias must have shape"),
        ({"residual": torch.zeros(6)}, RuntimeError, "residual must have the output's shape"),
        ({"input": torch.zeros(1, 4, 3, 3)}, ValueError, "needs more than one value per channel"),
        ({"input": torch.zeros(3, 5, 7, 9)}, RuntimeError, "but input has 5"),
        ({"input": torch.zeros(9)}, RuntimeError, "zoo::conv2d_batch_norm: input must have"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.conv2d_batch_norm(**{**tensors(dtype=torch.float32), **change})
