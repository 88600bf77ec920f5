"""How Python calls an op: by compiled code that knows the types; what that leaves to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from zoo import _C, ops

X = torch.randn(2, 8, 9, 7)
W = torch.randn(16, 8, 3, 3)


class Seen(Tensor):
    """A Tensor that notes what is called on it."""

    calls: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.calls.append(str(func))
        return super().__torch_function__(func, types, args, kwargs or {})


def call(input: Any, weight: Any = W, stride: Any = 1, activation: Any = "relu") -> Any:
    """``zoo._C.conv2d`` itself, with all its arguments."""
    return _C.conv2d(input, weight, None, stride, 1, 1, 1, activation, None, "default")


@pytest.mark.parametrize("stride", [2, (2, 2), [2, 2], (2,), np.int64(2), (np.int32(2), 2)])
@pytest.mark.parametrize("weight", [W, nn.Parameter(W, requires_grad=False)], ids=["w", "p"])
def test_plain_arguments_need_no_look_up(stride: Any, weight: Tensor) -> None:
    expected = torch.ops.zoo.conv2d(X, W, None, (2, 2), (1, 1), activation="relu")
    assert torch.equal(call(X, weight, stride), expected)
    assert torch.equal(ops.conv2d(X, weight, None, stride, 1, activation="relu"), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"input": X.as_subclass(Seen)},
        {"weight": W.as_subclass(Seen)},
        {"weight": None},
        {"weight": 3},
        {"stride": 1.0},
        {"stride": None},
        {"stride": "2"},
        {"stride": 2**70},
        {"stride": (1, 2**70)},
        {"stride": torch.tensor(2)},
        {"stride": (torch.tensor(2), 2)},
        {"activation": None},
        {"activation": b"relu"},
        {"activation": "\ud800"},
    ],
)
def test_other_arguments_are_left_to_torch(arguments: dict[str, Any]) -> None:
    assert call(**{"input": X, **arguments}) is NotImplemented


def test_the_number_of_arguments_is_checked() -> None:
    with pytest.raises(TypeError, match="max_pool2d takes 6 arguments, not 1"):
        _C.max_pool2d(X)


def test_errors_are_the_kernels_own() -> None:
    with pytest.raises(RuntimeError, match="zoo::conv2d: stride must be at least 1"):
        call(X, stride=0)
    with pytest.raises(ValueError, match="unknown activation"):
        call(X, activation="soft")


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("conv2d", lambda x: ops.conv2d(x, W, activation="relu")),
        ("conv2d_pool", lambda x: ops.conv2d_pool(x, W)),
        ("max_pool2d", lambda x: ops.max_pool2d(x, 2)),
        ("avg_pool2d", lambda x: ops.avg_pool2d(x, 2, divisor_override=3)),
        ("adaptive_avg_pool2d", lambda x: ops.adaptive_avg_pool2d(x, (3, 1))),
        ("scale_shift", lambda x: ops.scale_shift(x, x)),
        ("linear", lambda x: ops.linear(x, torch.ones(5, 7))),
    ],
)
def test_subclasses_modes_and_traces_see_the_op(name: str, run: Callable[[Tensor], Tensor]) -> None:
    expected = run(X)

    Seen.calls.clear()
    assert torch.equal(run(X.as_subclass(Seen)).as_subclass(Tensor), expected)
    assert f"zoo.{name}.default" in Seen.calls

    functions: list[str] = []

    class FunctionMode(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            functions.append(str(func))
            return func(*args, **(kwargs or {}))

    with FunctionMode():
        run(X)
    assert f"zoo.{name}.default" in functions

    dispatched: list[str] = []

    class DispatchMode(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            dispatched.append(str(func))
            return func(*args, **(kwargs or {}))

    with DispatchMode():
        assert torch.equal(run(X), expected)
    assert f"zoo.{name}.default" in dispatched

    with pytest.warns(FutureWarning, match="jit.trace"):
        traced = torch.jit.trace(run, (X,))
    assert f"zoo::{name}" in str(traced.graph)
    assert torch.equal(traced(X * 2), run(X * 2))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*jit.trace:FutureWarning")
@pytest.mark.parametrize(
    "run",
    [
        lambda x: ops.adaptive_avg_pool2d(x, (None, 2)),
        lambda x: ops.conv2d(x, W, padding="same"),
        lambda x: ops.conv2d(x, W, padding=(x.shape[2] // 4, 1)),
        lambda x: ops.conv2d_packed(x, ops.conv2d_prepack(W), W.shape),
    ],
)
def test_traced_sizes_are_numbers(run: Any) -> None:
    assert torch.equal(torch.jit.trace(run, (X,))(X * 2), run(X * 2))


def test_symbolic_sizes_reach_the_op() -> None:
    class RowsAsTheyAre(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ops.adaptive_avg_pool2d(x, (x.shape[2], 2))

    height = torch.export.Dim("height", min=4, max=12)
    program = torch.export.export(RowsAsTheyAre(), (X,), dynamic_shapes=({2: height},))
    for rows in (4, 9, 12):
        x = torch.randn(2, 8, rows, 7)
        assert torch.equal(program.module()(x), ops.adaptive_avg_pool2d(x, (rows, 2)))
