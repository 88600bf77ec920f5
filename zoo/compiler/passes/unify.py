"""One op for each thing: the many spellings of convolutions, pools and linear layers."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from zoo.compiler.graph import (
    add_constant,
    arguments,
    bypass,
    calls,
    clean,
    constant,
    dim,
    insert,
    is_call,
    is_float32,
    replace,
    shape,
    with_arguments,
)

_aten, _zoo = torch.ops.aten, torch.ops.zoo

_PADS = (_aten.pad.default, _aten.constant_pad_nd.default)


def unify_conv2d(graph_module: fx.GraphModule) -> int:
    """aten's float32 two-dimensional convolutions become ``zoo.conv2d``."""
    count = 0
    spellings = (_aten.conv2d.default, _aten.conv2d.padding, _aten.convolution.default)
    for node in calls(graph_module, *spellings):
        given = arguments(node)
        source, weight = given["input"], given["weight"]
        if not is_float32(node) or dim(source) != 4 or dim(weight) != 4:
            continue
        if given.get("transposed"):
            continue
        padding = _numbers(given["padding"], weight, given["dilation"])
        if padding is None:
            continue
        replace(
            node,
            _zoo.conv2d.default,
            (source, weight, given["bias"]),
            {
                "stride": _pair(given["stride"]),
                "padding": padding,
                "dilation": _pair(given["dilation"]),
                "groups": given["groups"],
            },
        )
        count += 1
    return count


def _numbers(padding: Any, weight: fx.Node, dilation: Any) -> list[int] | None:
    """The padding in numbers; None where the sides differ."""
    if not isinstance(padding, str):
        return _pair(padding)
    if padding == "valid":
        return [0, 0]
    sizes = shape(weight)
    assert sizes is not None
    total = [step * (int(size) - 1) for step, size in zip(_pair(dilation), sizes[2:], strict=True)]
    return [room // 2 for room in total] if all(room % 2 == 0 for room in total) else None


def absorb_padding(graph_module: fx.GraphModule) -> int:
    """Zeros around a map that only convolutions read, as those convolutions' own padding."""
    count = 0
    for node in calls(graph_module, _zoo.conv2d.default):
        given = arguments(node)
        pad = given["input"]
        if not is_call(pad, *_PADS) or dim(pad) != 4:
            continue
        sides = pad.args[1]
        if not isinstance(sides, (list, tuple)) or not all(type(side) is int for side in sides):
            continue
        left, right, top, bottom = (*sides, 0, 0, 0, 0)[:4]
        if len(sides) > 4 or left != right or top != bottom or min(left, top) < 0:
            continue
        if arguments(pad).get("mode", "constant") != "constant" or arguments(pad)["value"]:
            continue
        vertical, horizontal = _pair(given["padding"])
        changed = with_arguments(
            node, input=pad.args[0], padding=[vertical + top, horizontal + left]
        )
        replace(node, _zoo.conv2d.default, (), changed)
        count += 1
    clean(graph_module)
    return count


def unify_linear(graph_module: fx.GraphModule) -> int:
    """aten's float32 linear layers become ``zoo.linear``."""
    count = 0
    for node in calls(graph_module, _aten.linear.default):
        given = arguments(node)
        if is_float32(node) and dim(given["weight"]) == 2:
            replace(node, _zoo.linear.default, (given["input"], given["weight"], given["bias"]))
            count += 1
    for node in calls(graph_module, _aten.matmul.default, _aten.addmm.default):
        given = arguments(node)
        source = given.get("mat1", given.get("self"))
        weight, bias = constant(given.get("mat2", given.get("other"))), given.get("self")
        if not is_float32(node) or weight is None or weight.dim() != 2:
            continue
        if node.target is _aten.matmul.default:
            bias = None
        elif dim(bias) != 1 or given["alpha"] != 1 or given["beta"] != 1:
            continue
        from_rows = add_constant(node, weight.t().contiguous(), f"{node.name}_weight")
        replace(node, _zoo.linear.default, (source, from_rows, bias))
        count += 1
    clean(graph_module)
    return count


def unify_pools(graph_module: fx.GraphModule) -> int:
    """aten's float32 pools of (N, C, H, W), and means over H and W, become zoo's."""
    clean(graph_module)  # indices that nothing uses
    count = 0
    for node in calls(graph_module, *_POOLS):
        given = arguments(node)
        source = given["self"]
        if dim(source) != 4 or not is_float32(source):
            continue
        if node.target is _aten.mean.dim:
            count += _unify_mean(node, given)
        elif node.target is _aten.adaptive_avg_pool2d.default:
            replace(node, _zoo.adaptive_avg_pool2d.default, (source, given["output_size"]))
            count += 1
        elif node.target is _aten.avg_pool2d.default:
            replace(node, _zoo.avg_pool2d.default, (), _pool(given))
            count += 1
        elif node.target is _aten.max_pool2d.default:
            replace(node, _zoo.max_pool2d.default, (), _pool(given))
            count += 1
        elif all(is_call(user, operator.getitem) and user.args[1] == 0 for user in node.users):
            for user in list(node.users):
                replace(user, _zoo.max_pool2d.default, (), _pool(given))
            count += 1
    clean(graph_module)
    return count


_POOLS = (
    _aten.adaptive_avg_pool2d.default,
    _aten.avg_pool2d.default,
    _aten.max_pool2d.default,
    _aten.max_pool2d_with_indices.default,
    _aten.mean.dim,
)


def _pool(given: dict[str, Any]) -> dict[str, Any]:
    changed = {"input": given.pop("self"), **given}
    for name in ("kernel_size", "padding", "dilation"):
        if name in changed:
            changed[name] = _pair(changed[name])
    changed["stride"] = _pair(changed["stride"]) if changed["stride"] else []
    return changed


def _unify_mean(node: fx.Node, given: dict[str, Any]) -> int:
    axes = given["dim"]
    if axes is None or sorted(axis % 4 for axis in axes) != [2, 3] or given["dtype"] is not None:
        return 0
    pooled = insert(node, _zoo.adaptive_avg_pool2d.default, (given["self"], [1, 1]), like=node)
    value = node.meta["val"]
    if given["keepdim"]:
        bypass(node, pooled)
    else:
        pooled.meta["val"] = value.unsqueeze(-1).unsqueeze(-1)
        replace(node, _aten.flatten.using_ints, (pooled, 1))
    return 1


def _pair(values: Any) -> list[int]:
    both = [values] if isinstance(values, int) else list(values)
    return [both[0], both[-1]]
