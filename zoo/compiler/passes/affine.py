"""Scales and shifts by channel: BatchNorm, layer scale; folded into convolutions and linear layers.

All become ``zoo.scale_shift`` first, so that one pair of passes folds them all.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

from zoo.compiler.graph import (
    add_constant,
    arguments,
    calls,
    clean,
    constant,
    dim,
    insert,
    is_call,
    is_constant,
    is_float32,
    replace,
    same_shape,
    scaled,
    shape,
    used_once,
    with_arguments,
)

_aten, _zoo = torch.ops.aten, torch.ops.zoo

_NATIVE = _aten._native_batch_norm_legit_no_training.default
_SUMS = (_aten.add.Tensor, _aten.sub.Tensor, _aten.add.Scalar, _aten.sub.Scalar)
_PRODUCTS = (_aten.mul.Tensor, _aten.div.Tensor, _aten.mul.Scalar, _aten.div.Scalar)


def unify_batch_norm(graph_module: fx.GraphModule) -> int:
    """A BatchNorm with running statistics is a scale and a shift by channel."""
    clean(graph_module)  # saved statistics that nothing uses
    count = 0
    for node in calls(graph_module, _aten.batch_norm.default, _NATIVE):
        given = arguments(node)
        mean, variance = constant(given["running_mean"]), constant(given["running_var"])
        weight, bias = constant(given["weight"]), constant(given["bias"])
        results = [node] if node.target is not _NATIVE else list(node.users)
        if given.get("training") or mean is None or variance is None:
            continue
        if not is_float32(given["input"]) or not all(
            value is node or (is_call(value, operator.getitem) and value.args[1] == 0)
            for value in results
        ):
            continue
        if (weight is None) != (given["weight"] is None) or (bias is None) != (
            given["bias"] is None
        ):
            continue
        scale = (variance.double() + given["eps"]).rsqrt()
        scale = scale if weight is None else scale * weight.double()
        shift = -mean.double() * scale
        shift = shift if bias is None else shift + bias.double()
        for result in results:
            sizes = [-1] + [1] * (dim(given["input"]) - 2)
            replace(
                result,
                _zoo.scale_shift.default,
                (
                    given["input"],
                    add_constant(result, scale.reshape(sizes).float(), f"{node.name}_scale"),
                    add_constant(result, shift.reshape(sizes).float(), f"{node.name}_shift"),
                ),
            )
            count += 1
    clean(graph_module)
    return count


def unify_affine(graph_module: fx.GraphModule) -> int:
    """Sums, differences, products and quotients with constants become ``zoo.scale_shift``."""
    count = 0
    for node in calls(graph_module, *_SUMS, *_PRODUCTS):
        given = arguments(node)
        source, value = given["self"], _value(given["other"])
        if value is None and node.target in (_aten.add.Tensor, _aten.mul.Tensor):
            source, value = given["other"], _value(given["self"])
        if value is None or given.get("alpha", 1) != 1 or is_constant(source):
            continue
        if not is_float32(source) or not is_float32(node) or not same_shape(source, node):
            continue
        if node.target in (_aten.sub.Tensor, _aten.sub.Scalar):
            value = -value
        elif node.target in (_aten.div.Tensor, _aten.div.Scalar):
            value = 1 / value
        is_product = node.target in _PRODUCTS
        name = f"{node.name}_{'scale' if is_product else 'shift'}"
        factor = add_constant(node, value.float(), name)
        replace(
            node,
            _zoo.scale_shift.default,
            (source, factor) if is_product else (source, None, factor),
        )
        count += 1
    clean(graph_module)
    return count


def compose_affine(graph_module: fx.GraphModule) -> int:
    """A scale and shift of a scale and shift is one."""
    count = 0
    for node in calls(graph_module, _zoo.scale_shift.default):
        inner = arguments(node)["input"]
        outer = _affine(node)
        if not is_call(inner, _zoo.scale_shift.default) or not used_once(inner) or outer is None:
            continue
        first = _affine(inner)
        if first is None or arguments(inner)["activation"] != "none":
            continue
        scale, shift = first[0] * outer[0], first[1] * outer[0] + outer[1]
        replace(
            node,
            _zoo.scale_shift.default,
            (
                arguments(inner)["input"],
                add_constant(node, scale.float(), f"{node.name}_scale"),
                add_constant(node, shift.float(), f"{node.name}_shift"),
            ),
            {"activation": arguments(node)["activation"]},
        )
        count += 1
    clean(graph_module)
    return count


def fold_into_previous(graph_module: fx.GraphModule) -> int:
    """Scale and shift behind a convolution or linear layer, into its weight and bias."""
    count = 0
    for node in calls(graph_module, _zoo.scale_shift.default):
        layer = arguments(node)["input"]
        if not is_call(layer, _zoo.conv2d.default, _zoo.linear.default) or not used_once(layer):
            continue
        given, affine = arguments(layer), _affine(node)
        sizes, bias = shape(given["weight"]), _bias(given)
        if affine is None or not is_constant(given["weight"]) or sizes is None or bias is None:
            continue
        if given["activation"] != "none" or given["residual"] is not None:
            continue
        scale, shift = (_by_channel(value, layer, int(sizes[0])) for value in affine)
        if scale is None or shift is None:
            continue
        # In the place of the scale and shift, whose activation becomes the layer's.
        changed = with_arguments(
            layer,
            weight=_scaled_weight(node, given["weight"], scale),
            bias=_new_bias(node, bias * scale + shift, int(sizes[0])),
            activation=arguments(node)["activation"],
        )
        replace(node, layer.target, (), changed)
        count += 1
    clean(graph_module)
    return count


def fold_into_next(graph_module: fx.GraphModule) -> int:
    """Scale and shift in front of a convolution or linear layer, into its weight and bias.

    A shift does not pass through padding, whose zeros it would have to reach.
    """
    count = 0
    for node in calls(graph_module, _zoo.conv2d.default, _zoo.linear.default):
        given = arguments(node)
        source = given["input"]
        if not is_call(source, _zoo.scale_shift.default) or not used_once(source):
            continue
        affine, weight, bias = _affine(source), constant(given["weight"]), _bias(given)
        if affine is None or weight is None or bias is None:
            continue
        sizes = shape(source)
        channels = sizes[1 if node.target is _zoo.conv2d.default else -1] if sizes else None
        if arguments(source)["activation"] != "none" or not isinstance(channels, int):
            continue
        scale, shift = (_by_channel(value, node, channels) for value in affine)
        if scale is None or shift is None:
            continue
        if any(given.get("padding") or ()) and shift.any():
            continue
        wide = weight.double().reshape(given.get("groups", 1), -1, *weight.shape[1:])
        scale, shift = (
            value.reshape(wide.shape[0], 1, -1, *[1] * (weight.dim() - 2))
            for value in (scale, shift)
        )
        extra = (wide * shift).flatten(2).sum(-1).flatten()
        changed = with_arguments(
            node,
            input=arguments(source)["input"],
            weight=add_constant(
                node, (wide * scale).reshape(weight.shape).float(), f"{node.name}_weight"
            ),
            bias=_new_bias(node, bias + extra, len(weight)),
        )
        replace(node, node.target, (), changed)
        count += 1
    clean(graph_module)
    return count


def _affine(node: fx.Node) -> tuple[Tensor, Tensor] | None:
    """The scale and the shift in float64, where both are constants."""
    given = arguments(node)
    scale, shift = constant(given["scale"]), constant(given["shift"])
    if (scale is None) != (given["scale"] is None) or (shift is None) != (given["shift"] is None):
        return None
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    return (
        one if scale is None else scale.double(),
        zero if shift is None else shift.double(),
    )


def _by_channel(value: Tensor, layer: fx.Node, channels: int) -> Tensor | None:
    """(channels,) where the value varies along the layer's channels alone; otherwise None."""
    if value.numel() == 1:
        return value.reshape(1).expand(channels)
    # Channels are the second of four dimensions, or the last.
    behind = 2 if layer.target is _zoo.conv2d.default else 0
    if value.dim() <= behind or value.shape[value.dim() - 1 - behind] != value.numel():
        return None
    return value.reshape(-1) if value.numel() == channels else None


def _bias(given: dict[str, Any]) -> Tensor | None:
    """The layer's constant bias in float64; a zero where it has none."""
    if given["bias"] is None:
        return torch.zeros((), dtype=torch.float64)
    bias = constant(given["bias"])
    return None if bias is None else bias.double()


def _scaled_weight(node: fx.Node, weight: fx.Node, scale: Tensor) -> fx.Node:
    """The weight times a number for each of its filters, as a product in front of the node."""
    before = scaled(weight)
    if before is not None:
        weight, first = before
        known = constant(first)
        assert known is not None
        scale = scale * known.double().flatten()
    factor = scale.reshape(-1, *[1] * (dim(weight) - 1)).float()
    factors = add_constant(node, factor.contiguous(), f"{node.name}_scale")
    return insert(node, _aten.mul.Tensor, (weight, factors), like=weight)


def _new_bias(node: fx.Node, bias: Tensor, filters: int) -> fx.Node:
    return add_constant(node, bias.expand(filters).contiguous().float(), f"{node.name}_bias")


def _value(value: Any) -> Tensor | None:
    """The constant or the number as a float64 tensor."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return torch.tensor(value, dtype=torch.float64)
    found = constant(value)
    return found.double() if found is not None and found.dtype == torch.float32 else None
