"""Residuals, activations, pools and gates join the op in front of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from zoo.compiler.graph import (
    arguments,
    calls,
    clean,
    is_call,
    is_constant,
    is_float32,
    replace,
    same_shape,
    sums,
    used_once,
    with_arguments,
)
from zoo.compiler.passes.activations import activation

_aten, _zoo = torch.ops.aten, torch.ops.zoo


def fuse_residual(graph_module: fx.GraphModule) -> int:
    """``conv2d(x) + y`` becomes ``conv2d(x, residual=y)``; linear layers likewise.

    The call moves to the sum's place, behind y. Of two layers the later one takes the sum.
    """
    layers = (_zoo.conv2d.default, _zoo.linear.default)
    order = {node: index for index, node in enumerate(graph_module.graph.nodes)}
    count = 0
    for node, one, other in sums(graph_module):
        for layer, residual in sorted(
            ((one, other), (other, one)), key=lambda pair: -order.get(pair[0], -1)
        ):
            if not is_call(layer, *layers) or not used_once(layer):
                continue
            if arguments(layer)["activation"] != "none" or arguments(layer)["residual"]:
                continue
            new = replace(node, layer.target, (), with_arguments(layer, residual=residual))
            order[new] = order[node]
            count += 1
            break
    clean(graph_module)
    return count


def fuse_gates(graph_module: fx.GraphModule) -> int:
    """Products with a broadcast gate (squeeze-excite) become ``zoo.scale_shift``."""
    count = 0
    for node in calls(graph_module, _aten.mul.Tensor):
        one, other = node.args[:2]
        if is_constant(node) or not all(map(is_float32, (node, one, other))):
            continue
        for source, gate in ((one, other), (other, one)):
            if same_shape(source, node) and not same_shape(gate, node):
                replace(node, _zoo.scale_shift.default, (source, gate))
                count += 1
                break
    return count


def fuse_shift(graph_module: fx.GraphModule) -> int:
    """What is added to a scaled map is its shift."""
    count = 0
    for node, one, other in sums(graph_module):
        for scaled, shift in ((one, other), (other, one)):
            if not is_call(scaled, _zoo.scale_shift.default) or not used_once(scaled):
                continue
            given = arguments(scaled)
            if given["shift"] is not None or given["activation"] != "none":
                continue
            replace(node, _zoo.scale_shift.default, (), with_arguments(scaled, shift=shift))
            count += 1
            break
    clean(graph_module)
    return count


def fuse_activation(graph_module: fx.GraphModule) -> int:
    """An activation joins the convolution, linear layer, scale and shift or sum in front of it."""
    count = 0
    fused = (_zoo.conv2d.default, _zoo.linear.default, _zoo.scale_shift.default)
    for node in list(graph_module.graph.nodes):
        name = activation(node)
        source: Any = node.args[0] if name is not None else None
        if not isinstance(source, fx.Node) or not used_once(source):
            continue
        if is_call(source, *fused) and arguments(source)["activation"] == "none":
            replace(node, source.target, (), with_arguments(source, activation=name))
            count += 1
        elif is_call(source, _aten.add.Tensor) and arguments(source)["alpha"] == 1:
            one, other = source.args[:2]
            if is_float32(one) and is_float32(other) and same_shape(one, source):
                replace(node, _zoo.scale_shift.default, (one, None, other), {"activation": name})
                count += 1
    clean(graph_module)
    return count


def fuse_pool(graph_module: fx.GraphModule) -> int:
    """A max or average pool of at most 3x3 joins the convolution in front of it."""
    count = 0
    for node in calls(graph_module, _zoo.max_pool2d.default, _zoo.avg_pool2d.default):
        pool = arguments(node)
        conv = pool["input"]
        if not is_call(conv, _zoo.conv2d.default) or not used_once(conv):
            continue
        given = arguments(conv)
        if given.pop("residual") is not None or not is_constant(given["weight"]):
            continue
        if pool["ceil_mode"] or max(pool["kernel_size"]) > 3:
            continue
        is_max = node.target is _zoo.max_pool2d.default
        if is_max and list(pool["dilation"]) not in ([1], [1, 1]):
            continue
        if not is_max and (
            pool["divisor_override"] is not None
            or (any(pool["padding"]) and not pool["count_include_pad"])
        ):
            continue
        options = {
            "pool": "max" if is_max else "avg",
            "pool_kernel": pool["kernel_size"],
            "pool_stride": pool["stride"],
            "pool_padding": pool["padding"],
        }
        changed = {**with_arguments(conv), **options}
        replace(node, _zoo.conv2d_pool.default, (), changed)
        count += 1
    clean(graph_module)
    return count
