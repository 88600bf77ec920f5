"""Arguments may share memory, with one another and within themselves: an op only reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import op_samples
import pytest
import torch
from op_samples import Sample

from zoo import ops

# The kernel, and an input and a weight for which it is chosen, with outputs of the input's shape.
KERNELS = {
    "direct": ((2, 8, 7, 9), (8, 8, 3, 3), 1),
    "gemm": ((1, 40, 5, 7), (40, 40, 3, 3), 1),
    "depthwise": ((2, 20, 7, 9), (20, 1, 3, 3), 20),
    "winograd2": ((2, 17, 15, 10), (17, 17, 3, 3), 1),
    "winograd4": ((1, 17, 33, 34), (17, 17, 3, 3), 1),
}


def part(memory: torch.Tensor, start: int, size: tuple[int, ...]) -> torch.Tensor:
    return memory[start : start + torch.Size(size).numel()].view(size)


def overlapping(memory: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Rows, channels and images that start a few numbers behind one another."""
    return memory.as_strided(size, (7, 5, 3, 1))


def arguments(name: str, way: str, memory: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Input, weight, bias and residual that lie in ``memory`` and meet."""
    size, weight_size, _ = KERNELS[name]
    bias = part(memory, 5, (weight_size[0],))
    if way == "dense":
        x, w = part(memory, 0, size), part(memory, 11, weight_size)
        return x, w, bias, x
    if way == "overlapping":
        x, w = overlapping(memory, size), overlapping(memory, weight_size)
        return x, w, bias, x
    assert way == "expanded"
    x, w = memory[:9].expand(*size[:3], 9)[..., : size[3]], memory[:3].expand(weight_size)
    if size[3] > 9:
        x = memory[: size[3]].expand(size)
    return x, w, memory[:1].expand(weight_size[0]), memory[2].expand(size)


@pytest.mark.parametrize("way", ["dense", "overlapping", "expanded"])
@pytest.mark.parametrize("name", KERNELS)
def test_convolutions(name: str, way: str, capability: str) -> None:
    memory = torch.randn(20_000)
    before = memory.clone()
    x, w, bias, residual = arguments(name, way, memory)
    groups = KERNELS[name][2]
    options: dict[str, Any] = {"residual": residual, "activation": "silu"}
    if not name.startswith("winograd"):
        options["precision"] = "exact"
    sample = Sample(name, "conv2d", (x, w, bias, 1, 1, 1, groups), options)
    assert op_samples.implementation(sample, packed="precision" in options) == name
    op_samples.check(sample)
    packed = ops.conv2d_prepack(w, groups, 1, 1, input_size=x.shape)
    result = ops.conv2d_packed(x, packed, w.shape, bias, 1, 1, 1, groups, residual=residual)
    expected = ops.conv2d(x, w, bias, 1, 1, 1, groups, residual=residual)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-4)
    assert result.untyped_storage().data_ptr() != memory.untyped_storage().data_ptr()
    assert torch.equal(memory, before)


OTHERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "conv2d_pool": lambda x: ops.conv2d_pool(x, x[:1, :, :3, :3], x[0, :1, 0, 0]),
    "max_pool2d": lambda x: ops.max_pool2d(x, 3, 2, 1),
    "avg_pool2d": lambda x: ops.avg_pool2d(x, 3, 2, 1),
    "adaptive_avg_pool2d": lambda x: ops.adaptive_avg_pool2d(x, 1),
    "own size": lambda x: ops.adaptive_avg_pool2d(x, (None, None)),
    "one by one": lambda x: ops.max_pool2d(x, 1),
    "scale_shift": lambda x: ops.scale_shift(x, x, x[:, :1], activation="relu"),
    "nothing": lambda x: ops.scale_shift(x),
    "linear": lambda x: ops.linear(x, x[0, 0], x[0, 0, :, 0], residual=x[..., :8]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_ops(name: str, capability: str) -> None:
    op, memory = OTHERS[name], torch.randn(2000)
    before = memory.clone()
    for x in (part(memory, 0, (2, 6, 8, 9)), overlapping(memory, (2, 6, 8, 9))):
        result = op(x)
        torch.testing.assert_close(result.double(), op(x.double()), rtol=1e-5, atol=1e-4)
        assert result.untyped_storage().data_ptr() != memory.untyped_storage().data_ptr()
    assert torch.equal(memory, before)


def test_no_op_writes_to_an_argument() -> None:
    """So there is no ``out=`` that could meet an input, and nothing to refuse."""
    schemas = [s for s in torch._C._jit_get_all_schemas() if s.name.startswith("zoo::")]
    assert len(schemas) >= 16
    for schema in schemas:
        assert not schema.is_mutable, schema
        values = [*schema.arguments, *schema.returns]
        assert all(value.alias_info is None for value in values), schema
    with pytest.raises(TypeError, match="out"):
        ops.max_pool2d(torch.randn(1, 1, 4, 4), 2, out=torch.empty(1, 1, 2, 2))  # type: ignore[call-arg, call-overload]
