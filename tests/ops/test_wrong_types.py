"""Arguments of a wrong type are refused in one line that names function and argument."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from zoo import ops
from zoo.errors import UsageError

X, W = (2, 4, 6, 6), (8, 4, 3, 3)


def conv(*args: Any, **kwargs: Any) -> Callable[..., Any]:
    return lambda x, w, b: ops.conv2d(x, w, b, *args, **kwargs)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (conv(activation=None), 'activation must be a name such as "none", not None'),
        (conv(precision=None), 'precision must be a name such as "default", not None'),
        (conv(1.5), "stride must be a whole number or a pair of them, not 1.5"),
        (conv(1.0), "stride must be a whole number or a pair of them, not 1.0"),
        (conv((1, 1.5)), r"stride must be a whole number or a pair of them, not \(1, 1.5\)"),
        (conv(1, None), "padding must be a whole number or a pair of them, not None"),
        (conv(1, 0, "2"), "dilation must be a whole number or a pair of them, not '2'"),
        (conv(1, 0, 1, 1.5), "groups must be a whole number, not 1.5"),
        (lambda x, w, b: ops.conv2d_pool(x, w, pool=None), 'pool must be a name such as "max"'),
        (lambda x, w, b: ops.conv2d_pool(x, w, pool_kernel=2.5), "pool_kernel must be a whole"),
        (lambda x, w, b: ops.conv2d_pool(x, w, activation=3), "activation must be a name"),
        (
            lambda x, w, b: ops.conv2d_packed(x, ops.conv2d_prepack(w), w.shape, activation=None),
            "activation must be a name",
        ),
        (lambda x, w, b: ops.max_pool2d(x, 2.0), "kernel_size must be a whole number"),
        (lambda x, w, b: ops.avg_pool2d(x, 2, 1.5), "stride must be a whole number"),
        (lambda x, w, b: ops.adaptive_avg_pool2d(x, (None, 1.5)), "output_size must be a whole"),
        (
            lambda x, w, b: ops.adaptive_avg_pool2d(x, (None, "a")),
            r"output_size must be .* not \(None, 'a'\)",
        ),
        (lambda x, w, b: ops.linear(b, torch.randn(3, 8), activation=None), "activation must be"),
        (lambda x, w, b: ops.scale_shift(x, activation=None), "activation must be a name"),
        (lambda x, w, b: ops.conv2d(x.numpy(), w), "conv2d: input must be a Tensor, not ndarray"),
        (lambda x, w, b: ops.conv2d(x, None), "conv2d: weight must be a Tensor, not None"),
        (lambda x, w, b: ops.conv2d(x, w, 3), "conv2d: bias must be a Tensor or None, not 3"),
        (conv(residual="x"), "conv2d: residual must be a Tensor or None, not 'x'"),
        (conv(torch.ones(3)), r"conv2d: stride must be a whole number or a pair of them, not tens"),
        (conv(torch.ones(X)), r"conv2d: stride must be a whole number or a pair of them, not Tens"),
        (
            conv(2**70),
            "conv2d: stride must be a whole number or a pair of them, not 11805916207174",
        ),
        (conv(activation=torch.ones(X)), 'activation must be a name such as "none", not Tensor'),
        (
            lambda x, w, b: ops.conv2d_pool([1.5], w),
            r"conv2d_pool: input must be a Tensor, not \[1.5\]",
        ),
        (
            lambda x, w, b: ops.conv2d_batch_norm(x, w, bn_weight="x"),
            "conv2d_batch_norm: bn_weight must be a Tensor or None, not 'x'",
        ),
        (
            lambda x, w, b: ops.conv2d_batch_norm(x, w, eps=None),
            "conv2d_batch_norm: eps must be a number, not None",
        ),
        (
            lambda x, w, b: ops.conv2d_batch_norm(x, w, groups="x"),
            "conv2d_batch_norm: groups must be a whole number, not 'x'",
        ),
        (lambda x, w, b: ops.conv2d_prepack(3), "conv2d_prepack: weight must be a Tensor, not 3"),
        (
            lambda x, w, b: ops.conv2d_prepack(w, 1.5),
            "conv2d_prepack: groups must be a whole number, not 1.5",
        ),
        (
            lambda x, w, b: ops.conv2d_prepack(w, input_size=7),
            "conv2d_prepack: input_size must be a sequence of whole numbers or None, not 7",
        ),
        (
            lambda x, w, b: ops.conv2d_packed(x, ops.conv2d_prepack(w), ("a", 1, 1, 1)),
            "conv2d_packed: weight_size must be a sequence of whole numbers, not",
        ),
        (
            lambda x, w, b: ops.conv2d_pool_packed(x, w.numpy(), w.shape),
            "conv2d_pool_packed: packed_weight must be a Tensor, not ndarray",
        ),
        (lambda x, w, b: ops.max_pool2d(None, 2), "max_pool2d: input must be a Tensor, not None"),
        (lambda x, w, b: ops.max_pool2d(x, 2, ceil_mode=b), "max_pool2d: ceil_mode must be a bool"),
        (
            lambda x, w, b: ops.avg_pool2d(x, 2, divisor_override="2"),
            "avg_pool2d: divisor_override must be a whole number or None, not '2'",
        ),
        (
            lambda x, w, b: ops.adaptive_avg_pool2d("x", 2),
            "adaptive_avg_pool2d: input must be a Tensor, not 'x'",
        ),
        (
            lambda x, w, b: ops.adaptive_avg_pool2d(x, b),
            "adaptive_avg_pool2d: output_size must be a whole number or a pair of them, or None",
        ),
        (
            lambda x, w, b: ops.scale_shift(x, 2.0),
            "scale_shift: scale must be a Tensor or None, not 2.0",
        ),
        (lambda x, w, b: ops.linear(b, w.numpy()), "linear: weight must be a Tensor, not ndarray"),
        (
            lambda x, w, b: ops.linear_prepack(()),
            r"linear_prepack: weight must be a Tensor, not \(",
        ),
        (
            lambda x, w, b: ops.linear_packed(b, b, "x"),
            "linear_packed: weight_size must be a sequence of whole numbers, not 'x'",
        ),
        (
            lambda x, w, b: ops.linear_packed(b, b, torch.tensor(2)),
            "linear_packed: weight_size must be a sequence of whole numbers, not tensor",
        ),
    ],
)
def test_wrong_types_are_told_in_one_line(call: Callable[..., Any], expected: str) -> None:
    with pytest.raises(TypeError, match=expected) as error:
        call(torch.randn(X), torch.randn(W), torch.randn(8))
    assert "\n" not in str(error.value)


def test_any_integers_and_sequences_will_do() -> None:
    x, w = torch.randn(X), torch.randn(W)
    expected = ops.conv2d(x, w, stride=2, padding=1)
    for two, one in (
        ([np.int64(2)] * 2, [np.int32(1)] * 2),
        ([2, 2], torch.Size([1, 1])),
        ((2,), (1,)),
        (np.int64(2), np.int32(1)),
    ):
        assert torch.equal(ops.conv2d(x, w, stride=two, padding=one), expected)


def test_torchs_own_message_does_not_follow() -> None:
    with pytest.raises(TypeError) as error:
        ops.conv2d(torch.randn(X), None)  # type: ignore[arg-type]
    assert "Declaration" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize("explain", [ops.explain_conv2d, ops.explain_cuda_conv2d])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"input_size": None}, "input_size must be a sequence of whole numbers, not None"),
        ({"weight_size": (8, 4, 3, "3")}, "weight_size must be a sequence of whole numbers"),
        ({"input_size": (2, 4, 6)}, "input_size must be four numbers of at least 0"),
        ({"input_size": (2, 4, 6, 2**70)}, "input_size must be a sequence of whole numbers"),
        ({"stride": 2**70}, "stride must be a whole number or a pair of them"),
        ({"stride": 1.5}, "stride must be a whole number or a pair of them, not 1.5"),
        ({"groups": 1.5}, "groups must be a whole number, not 1.5"),
        ({"activation": None}, 'activation must be a name such as "none", not None'),
        ({"precision": 3}, 'precision must be a name such as "default", not 3'),
    ],
)
def test_explanations_are_refused_in_one_line(
    explain: Callable[..., Any], arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match=expected) as error:
        explain(**{"input_size": X, "weight_size": W, **arguments})
    assert "\n" not in str(error.value)
