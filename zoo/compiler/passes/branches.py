"""Sums of linear branches on one input (RepVGG, MobileOne) become one convolution."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn.functional import pad

from zoo.compiler.graph import (
    add_constant,
    arguments,
    clean,
    constant,
    is_call,
    replace,
    sums,
    used_once,
    with_arguments,
)

_zoo = torch.ops.zoo


class _Kernel(NamedTuple):
    weight: Tensor
    bias: Tensor
    padding: list[int]


def merge_branches(graph_module: fx.GraphModule) -> int:
    """``conv3x3(x) + conv1x1(x) + scale_shift(x) + x``: one 3x3, its kernel the sum of theirs."""
    count = 0
    for node, one, other in sums(graph_module):
        for base, branch in ((one, other), (other, one)):
            merged = _merged(base, branch)
            if merged is None:
                continue
            weight = add_constant(node, merged.weight.float(), f"{node.name}_weight")
            bias = add_constant(node, merged.bias.float(), f"{node.name}_bias")
            changed = with_arguments(base, weight=weight, bias=bias, padding=merged.padding)
            replace(node, _zoo.conv2d.default, (), changed)
            count += 1
            break
    clean(graph_module)
    return count


def _merged(base: Any, branch: Any) -> _Kernel | None:
    """The kernel of both together, as large as the base's, which is a convolution."""
    large = _kernel(base)
    if large is None or base is branch:
        return None
    given = arguments(base)
    if is_call(branch, _zoo.conv2d.default) and _kernel(branch) is not None:
        window = arguments(branch)
        small = _kernel(branch)
        if any(window[name] != given[name] for name in ("input", "stride", "dilation", "groups")):
            return None
    else:
        small = _diagonal(branch, given, large.weight)
    if small is None:
        return None
    sides: list[int] = []
    for axis in (0, 1):
        margin = large.padding[axis] - small.padding[axis]
        room = large.weight.shape[2 + axis] - small.weight.shape[2 + axis]
        step = given["dilation"][axis]
        # With other dilations than 1, the taps fit where they coincide: only for single ones.
        if margin < 0 or (step != 1 and small.weight.shape[2 + axis] != 1) or margin % step:
            return None
        before = margin // step
        if room != 2 * before:
            return None
        sides = [before, before, *sides]
    return _Kernel(large.weight + pad(small.weight, sides), large.bias + small.bias, large.padding)


def _kernel(node: Any) -> _Kernel | None:
    """The weight and bias of a convolution that does nothing else, for one reader."""
    if not is_call(node, _zoo.conv2d.default) or not used_once(node):
        return None
    given = arguments(node)
    weight = constant(given["weight"])
    bias = None if given["bias"] is None else constant(given["bias"])
    if weight is None or (bias is None) != (given["bias"] is None):
        return None
    if given["activation"] != "none" or given["residual"] is not None:
        return None
    zeros = torch.zeros(len(weight), dtype=torch.float64)
    return _Kernel(
        weight.double(), zeros if bias is None else bias.double(), list(given["padding"])
    )


def _diagonal(branch: Any, given: dict[str, Any], weight: Tensor) -> _Kernel | None:
    """The branch that scales and shifts the input, or passes it on, as a 1x1 convolution."""
    out, inner = weight.shape[:2]
    if inner * given["groups"] != out or list(given["stride"]) != [1, 1]:
        return None
    scale, shift = torch.ones(1), torch.zeros(1)
    if branch is not given["input"]:
        if not is_call(branch, _zoo.scale_shift.default) or not used_once(branch):
            return None
        affine = arguments(branch)
        if affine["input"] is not given["input"] or affine["activation"] != "none":
            return None
        for name in ("scale", "shift"):
            value = constant(affine[name])
            if affine[name] is None:
                continue
            if value is None or value.numel() not in (1, out):
                return None
            if value.numel() > 1 and (value.dim() < 3 or value.shape[-3] != out):
                return None
            scale, shift = (value, shift) if name == "scale" else (scale, value)
    rows = torch.arange(out)
    diagonal = torch.zeros(out, inner, 1, 1, dtype=torch.float64)
    diagonal[rows, rows % inner, 0, 0] = scale.double().reshape(-1).expand(out)
    return _Kernel(diagonal, shift.double().reshape(-1).expand(out), [0, 0])
