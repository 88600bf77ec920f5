"""What does not fit is refused in one line that says why, by real and fake kernels alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

from zoo import ops

X, W = (2, 4, 6, 6), (8, 4, 3, 3)
WX, WW = (1, 16, 24, 24), (32, 16, 3, 3)


def winograd(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The weight, packed for Winograd."""
    return ops.conv2d_prepack(w, input_size=x.shape)


def conv(*args: Any, **kwargs: Any) -> Callable[..., Any]:
    return lambda x, w, b: ops.conv2d(x, w, b, *args, **kwargs)


# name: (sizes of input, weight, bias), the call, the message
WRONG: dict[str, tuple[tuple[Any, ...], Callable[..., Any], str]] = {
    "dims": (((4, 6), W, None), conv(), r"input must have 4 dimensions \(N, C, H, W\), not 2"),
    "weight dims": ((X, (8, 4, 3), None), conv(), "weight must have 4 dimensions .*, not 3"),
    "channels": ((X, (8, 3, 3, 3), None), conv(), "takes 3 channels, but input has 4"),
    "bias": ((X, W, (7,)), conv(), r"bias must have shape \[8\], not \[7\]"),
    "bias dims": ((X, W, (8, 1)), conv(), r"bias must have shape \[8\]"),
    "groups": ((X, W, None), conv(1, 0, 1, 3), "groups=3 does not divide weight's 8 output"),
    "groups of input": ((X, (9, 1, 3, 3), None), conv(1, 0, 1, 3), "divide input's 4 channels"),
    "no groups": ((X, W, None), conv(1, 0, 1, 0), "groups must be at least 1, not 0"),
    "negative groups": ((X, W, None), conv(1, 0, 1, -1), "groups must be at least 1, not -1"),
    "too small": (((2, 4, 2, 6), W, None), conv(), "the output would be empty: a window of 3x3"),
    "dilation too large": ((X, W, None), conv(1, 0, 3), "with dilation 3x3 does not fit"),
    "stride": ((X, W, None), conv(0), r"stride must be at least 1, not \[0, 0\]"),
    "padding": ((X, W, None), conv(1, (-1, 0)), r"padding must be at least 0, not \[-1, 0\]"),
    "dilation": ((X, W, None), conv(1, 0, (1, 0)), r"dilation must be at least 1, not \[1, 0\]"),
    "three numbers": ((X, W, None), conv((1, 1, 1)), "stride must be one number or two, not 3"),
    "empty weight": ((X, (0, 4, 3, 3), None), conv(), "weight must not be empty"),
    "no kernel": ((X, (8, 4, 0, 3), None), conv(), "weight must not be empty"),
    "no channels": (((2, 0, 6, 6), W, None), conv(), "only the batch may be empty"),
    "no rows": (((2, 4, 0, 6), W, None), conv(1, 3), "only the batch may be empty"),
    "residual": (
        (X, W, None),
        lambda x, w, b: ops.conv2d(x, w, residual=x),
        r"residual must have the output's shape \[2, 8, 4, 4\], not \[2, 4, 6, 6\]",
    ),
    "pool padding": (
        (X, W, None),
        lambda x, w, b: ops.conv2d_pool(x, w, pool_padding=2),
        "the pool's padding 2x2 is more than half of its kernel 2x2; pad the input beforehand",
    ),
    "pool too large": (
        (X, W, None),
        lambda x, w, b: ops.conv2d_pool(x, w, pool_kernel=9),
        "a window of 9x9 with dilation 1x1 does not fit a map of 4x4",
    ),
    "max_pool2d padding": (
        (X, W, None),
        lambda x, w, b: ops.max_pool2d(x, 2, padding=2),
        "zoo::max_pool2d: the pool's padding 2x2 is more than half",
    ),
    "max_pool2d padding of a dilated window": (
        (X, W, None),
        lambda x, w, b: ops.max_pool2d(x, 2, 1, padding=2, dilation=3),
        "zoo::max_pool2d: the pool's padding 2x2 is more than half of its kernel 2x2",
    ),
    "max_pool2d kernel": (
        (X, W, None),
        lambda x, w, b: ops.max_pool2d(x, 0),
        "kernel_size must be at least 1",
    ),
    "max_pool2d too large": (
        (X, W, None),
        lambda x, w, b: ops.max_pool2d(x, 7, return_indices=True),
        "zoo::max_pool2d: the output would be empty",
    ),
    "avg_pool2d divisor": (
        (X, W, None),
        lambda x, w, b: ops.avg_pool2d(x, 2, divisor_override=0),
        "divisor_override must not be 0",
    ),
    "adaptive_avg_pool2d size": (
        (X, W, None),
        lambda x, w, b: ops.adaptive_avg_pool2d(x, (2, 0)),
        "zoo::adaptive_avg_pool2d: output_size must be at least 1",
    ),
    "adaptive_avg_pool2d sizes": (
        (X, W, None),
        lambda x, w, b: ops.adaptive_avg_pool2d(x, (None, 1, 1)),
        "zoo::adaptive_avg_pool2d: output_size must be two numbers, not 3",
    ),
    "avg_pool2d stride": (
        (X, W, None),
        lambda x, w, b: ops.avg_pool2d(x, 2, 0),
        "stride must be at least 1",
    ),
    "packed": (
        (X, W, None),
        lambda x, w, b: ops.conv2d_packed(x, w, w.shape),
        "packed_weight must be what conv2d_prepack returns .* 1152 contiguous elements",
    ),
    "packed size": (
        (X, W, None),
        lambda x, w, b: ops.conv2d_packed(x, ops.conv2d_prepack(w), (8, 4, 3, 5)),
        "packed_weight must be what conv2d_prepack returns",
    ),
    "packed slices": (
        (X, W, None),
        lambda x, w, b: ops.conv2d_packed(x, ops.conv2d_prepack(w).repeat(2)[::2], w.shape),
        r"zoo::conv2d_packed: packed_weight is not contiguous; make it so with \.contiguous\(\)",
    ),
    "winograd stride": (
        (WX, WW, None),
        lambda x, w, b: ops.conv2d_packed(x, winograd(x, w), w.shape, stride=2),
        "packed_weight is packed for Winograd, but Winograd takes stride 1 only; pack it with",
    ),
    "winograd dilation": (
        (WX, WW, None),
        lambda x, w, b: ops.conv2d_pool_packed(x, winograd(x, w), w.shape, dilation=(1, 2)),
        "packed_weight is packed for Winograd, but Winograd takes dilation 1 only; pack it with",
    ),
    "winograd exact": (
        (WX, WW, None),
        lambda x, w, b: ops.conv2d_packed(x, winograd(x, w), w.shape, precision="exact"),
        'packed_weight is packed for Winograd, but precision="exact" avoids Winograd; pack it',
    ),
    "prepack stride": (
        (X, W, None),
        lambda x, w, b: ops.conv2d_prepack(w, stride=0),
        r"zoo::conv2d_prepack: stride must be at least 1, not \[0, 0\]",
    ),
    "prepack padding": (
        (X, W, None),
        lambda x, w, b: ops.conv2d_prepack(w, padding=-1),
        r"zoo::conv2d_prepack: padding must be at least 0, not \[-1, -1\]",
    ),
    "prepack dilation": (
        (X, W, None),
        lambda x, w, b: ops.conv2d_prepack(w, dilation=(1, 1, 1)),
        "zoo::conv2d_prepack: dilation must be one number or two, not 3",
    ),
    "prepack for no input": (
        (WX, WW, None),
        lambda x, w, b: ops.conv2d_prepack(w, input_size=(1, 16, 24)),
        r"input_size must be four numbers \(N, C, H, W\), not \[1, 16, 24\]",
    ),
    "prepack for a negative size": (
        (WX, WW, None),
        lambda x, w, b: ops.conv2d_prepack(w, input_size=(1, 16, -24, 24)),
        r"input_size must be four numbers \(N, C, H, W\), not \[1, 16, -24, 24\]",
    ),
    "linear": (
        ((2, 5), (8, 4), None),
        lambda x, w, b: ops.linear(x, w),
        r"zoo::linear: a weight of shape \[8, 4\] does not fit input's \[2, 5\]; it must be",
    ),
    "linear bias": (
        ((2, 4), (8, 4), (7,)),
        lambda x, w, b: ops.linear(x, w, b),
        r"zoo::linear: bias must have shape \[8\], not \[7\]",
    ),
    "linear residual": (
        ((2, 4), (8, 4), None),
        lambda x, w, b: ops.linear(x, w, residual=x),
        r"zoo::linear: residual must have the output's shape \[2, 8\], not \[2, 4\]",
    ),
    "linear of nothing": (
        ((2, 0), (8, 0), None),
        lambda x, w, b: ops.linear(x, w),
        r"zoo::linear: only the batch may be empty, but input's shape is \[2, 0\]",
    ),
    "linear empty weight": (
        ((2, 4), (0, 4), None),
        lambda x, w, b: ops.linear(x, w),
        r"zoo::linear: weight must not be empty, but its shape is \[0, 4\]",
    ),
    "linear packed": (
        ((2, 4), (8, 4), None),
        lambda x, w, b: ops.linear_packed(x, w, w.shape),
        r"zoo::linear_packed: packed_weight must be what linear_prepack returns for a weight of "
        r"shape \[8, 4\] and",
    ),
    "linear packed bias": (
        ((2, 4), (8, 4), (7,)),
        lambda x, w, b: ops.linear_packed(x, ops.linear_prepack(w), w.shape, b),
        r"zoo::linear_packed: bias must have shape \[8\], not \[7\]",
    ),
    "linear packed size": (
        ((2, 4), (8, 4), None),
        lambda x, w, b: ops.linear_packed(x, ops.linear_prepack(w), (8, 4, 1)),
        r"zoo::linear_packed: weight_size must be two numbers \(O, C\), not \[8, 4, 1\]",
    ),
    "linear prepack": (
        ((2, 4), (0, 4), None),
        lambda x, w, b: ops.linear_prepack(w),
        r"zoo::linear_prepack: weight must not be empty, but its shape is \[0, 4\]",
    ),
    "scale_shift": (
        (X, (3,), None),
        lambda x, w, b: ops.scale_shift(x, w),
        r"zoo::scale_shift: scale of shape \[3\] does not broadcast to input's \[2, 4, 6, 6\]",
    ),
    "max_pool2d of a pixel": (
        ((2, 4, 1, 1), W, None),
        lambda x, w, b: ops.max_pool2d(x.requires_grad_(), 2),
        "zoo::max_pool2d: the output would be empty: a window of 2x2 .* not fit a map of 1x1",
    ),
    "training conv2d_pool on a pixel": (
        ((2, 4, 3, 3), W, None),
        lambda x, w, b: ops.conv2d_pool(
            x.to(memory_format=torch.channels_last), w.requires_grad_(), activation="relu"
        ),
        "zoo::conv2d_pool: the output would be empty: a window of 2x2 .* not fit a map of 1x1",
    ),
    "prepack for other channels": (
        (WX, WW, None),
        lambda x, w, b: ops.conv2d_prepack(w, input_size=(1, 17, 24, 24)),
        "zoo::conv2d_prepack: a weight of shape .* takes 16 channels, but input has 17",
    ),
}


def message(error: pytest.ExceptionInfo[RuntimeError]) -> str:
    """The text, without what torch may append about the place in C++."""
    return str(error.value).split("\nException raised from", maxsplit=1)[0]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name: str) -> None:
    sizes, call, expected = WRONG[name]
    tensors = [None if size is None else torch.randn(size) for size in sizes]
    with pytest.raises(RuntimeError, match=expected) as real:
        call(*tensors)
    assert "\n" not in message(real)
    with FakeTensorMode() as mode, pytest.raises(RuntimeError) as fake:
        call(*[None if tensor is None else mode.from_tensor(tensor) for tensor in tensors])
    assert message(fake) == message(real)


def test_wrong_dtypes() -> None:
    x, w, b = torch.randn(X), torch.randn(W), torch.randn(8)
    for call, expected in [
        (lambda: ops.conv2d(x, w.double()), "weight is Double but input is Float; convert one"),
        (lambda: ops.conv2d(x, w, b.double()), "bias is Double but input is Float"),
        (lambda: ops.conv2d_pool(x.double(), w), "weight is Float but input is Double"),
        (
            lambda: ops.linear(b, torch.randn(3, 8).double()),
            "zoo::linear: weight is Double but input is Float; convert one",
        ),
        (
            lambda: ops.linear_packed(b, ops.linear_prepack(torch.randn(3, 8).double()), (3, 8)),
            "zoo::linear_packed: weight is Double but input is Float",
        ),
        (
            lambda: ops.scale_shift(x, shift=x.double()),
            "zoo::scale_shift: shift is Double but input is Float; convert one",
        ),
        (
            lambda: ops.conv2d_packed(x, ops.conv2d_prepack(w.double()), w.shape),
            "weight is Double but input is Float",
        ),
    ]:
        with pytest.raises(RuntimeError, match=expected) as real:
            call()
        assert "\n" not in message(real)


def test_wrong_devices() -> None:
    with pytest.raises(RuntimeError, match=r"weight is on cpu but input is on meta; move one"):
        torch.ops.zoo.conv2d.default(torch.randn(X).to("meta"), torch.randn(W))
    with pytest.raises(RuntimeError, match=r"weight is on .* but input is on"):
        ops.conv2d(torch.randn(X), torch.randn(W, device="meta"))
    # A meta tensor anywhere leads to the fake kernel, which must not return memory as it found it.
    x, w, b = torch.randn(X), torch.randn(W), torch.randn(8)
    for call, what in (
        (lambda: ops.linear(b, torch.randn(3, 8, device="meta")), "zoo::linear: weight"),
        (lambda: ops.scale_shift(x, x.to("meta")), "zoo::scale_shift: scale"),
        (lambda: ops.conv2d_batch_norm(x, w, bn_bias=b.to("meta")), "batch_norm: bn_bias"),
    ):
        with pytest.raises(RuntimeError, match=f"{what} is on meta but input is on cpu; move one"):
            call()


def test_sparse_input(allow_fallback: None) -> None:
    with pytest.raises(RuntimeError, match=r"must be a dense tensor, not Sparse.*\.to_dense\(\)"):
        ops.max_pool2d(torch.randn(X).to_sparse(), 2)
    x, w, bias = torch.randn(X), torch.randn(W), torch.randn(W[0])
    residual = torch.randn(ops.conv2d(x, w).shape)
    for call in (
        lambda: ops.conv2d(x, w.to_sparse()),
        lambda: ops.conv2d(x, w, bias.to_sparse()),
        lambda: ops.conv2d(x, w, residual=residual.to_sparse()),
        lambda: ops.conv2d_prepack(w.to_sparse()),
        lambda: ops.scale_shift(x.to_sparse()),
        lambda: ops.scale_shift(x, x.to_sparse()),
        lambda: ops.linear(bias[None].to_sparse(), torch.randn(3, 8)),
        lambda: ops.linear(bias, torch.randn(3, 8), residual=torch.randn(3).to_sparse()),
    ):
        with pytest.raises(RuntimeError, match=r"dense tensor, not Sparse.*\.to_dense\(\)"):
            call()


def test_unknown_names() -> None:
    x, w = torch.randn(X), torch.randn(W)
    with pytest.raises(ValueError, match='unknown activation "swish"; known are none, relu,'):
        ops.conv2d(x, w, activation="swish")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='unknown pool "min"; known are max, avg'):
        ops.conv2d_pool(x, w, pool="min")  # type: ignore[arg-type]
    for call in (
        lambda: ops.conv2d(x, w, precision="half"),  # type: ignore[arg-type]
        lambda: ops.conv2d_pool(x, w, precision="half"),  # type: ignore[arg-type]
        lambda: ops.conv2d_prepack(w, precision="half"),  # type: ignore[arg-type]
        lambda: ops.conv2d_packed(x, ops.conv2d_prepack(w), w.shape, precision="half"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match='unknown precision "half"; known are default, exact'):
            call()
    with pytest.raises(ValueError, match='unknown padding "full"'):
        ops.conv2d(x, w, padding="full")
    with pytest.raises(ValueError, match="needs stride 1"):
        ops.conv2d(x, w, stride=2, padding="same")


@pytest.mark.parametrize("number", [2**61, 2**63 - 1])
def test_numbers_that_would_overflow(number: int) -> None:
    x, w = torch.randn(X), torch.randn(W)
    with pytest.raises(RuntimeError, match="padding is too large"):
        ops.conv2d(x, w, padding=number)
    with pytest.raises(RuntimeError, match=r"too large|would be empty"):
        ops.conv2d(x, w, dilation=number)
    with pytest.raises(RuntimeError, match="too large"):
        ops.max_pool2d(x, number)
    with pytest.raises(RuntimeError, match="too large"):
        ops.conv2d_packed(x, ops.conv2d_prepack(w), (number, number, 3, 3))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x, w: ops.conv2d(x, w, padding=2**31), "conv2d: an output of shape [2, 8, "),
        (lambda x, w: ops.conv2d_pool(x, w, padding=2**40), "conv2d_pool: an output of shape"),
        (lambda x, w: ops.adaptive_avg_pool2d(x, 2**40), "adaptive_avg_pool2d: an output of"),
        (
            lambda x, w: ops.conv2d_prepack(w, input_size=(1, 4, 2**40, 2**40)),
            "conv2d_prepack: input_size [1, 4, 1099511627776, 1099511627776] is",
        ),
    ],
)
def test_larger_than_any_memory(call: Callable[..., Any], expected: str) -> None:
    with pytest.raises(RuntimeError) as error:
        call(torch.randn(X), torch.randn(W))
    assert message(error).startswith(f"zoo::{expected}")
    assert message(error).endswith("is more than any memory holds; give smaller numbers")
