"""Activations: those that zoo's kernels know, and their spellings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from zoo.compiler.graph import (
    arguments,
    calls,
    clean,
    constant,
    is_call,
    is_float32,
    replace,
    used_once,
)

_aten = torch.ops.aten

_NAMES = {
    _aten.relu.default: "relu",
    _aten.relu6.default: "relu6",
    _aten.sigmoid.default: "sigmoid",
    _aten.tanh.default: "tanh",
    _aten.silu.default: "silu",
    _aten.hardswish.default: "hardswish",
    _aten.hardsigmoid.default: "hardsigmoid",
    _aten.gelu.default: "gelu",
    _aten.leaky_relu.default: "leaky_relu",
}
_PRODUCTS = (_aten.mul.Tensor, _aten.mul.Scalar, _aten.div.Tensor, _aten.div.Scalar)
_CLAMPS = (
    _aten.clamp.default,
    _aten.clamp_min.default,
    _aten.hardtanh.default,
    _aten.threshold.default,
)


def activation(node: Any) -> str | None:
    """The name in ``zoo.ops.ACTIVATIONS`` of what the call computes, if it is one of them."""
    if not isinstance(node, fx.Node) or node.target not in _NAMES or not is_float32(node):
        return None
    given = arguments(node)
    if given.get("approximate", "none") != "none":
        return None
    if node.target is _aten.leaky_relu.default and given["negative_slope"] != 0.01:
        return None
    return _NAMES[node.target]


def unify_activations(graph_module: fx.GraphModule) -> int:
    """``clamp(x, 0, 6)`` is relu6, ``x * sigmoid(x)`` silu, and so on."""
    count = 0
    for node in calls(graph_module, *_CLAMPS):
        if is_float32(node):
            count += _unify_clamp(node)
    for node in calls(graph_module, *_PRODUCTS):
        if is_float32(node):
            count += _unify_product(node)
    clean(graph_module)
    return count


def _unify_clamp(node: fx.Node) -> int:
    given = arguments(node)
    if node.target is _aten.threshold.default:
        bounds = (0, None) if given["threshold"] == given["value"] == 0 else (None, None)
    elif node.target is _aten.hardtanh.default:
        bounds = given["min_val"], given["max_val"]
    else:
        bounds = given["min"], given.get("max")
    targets = {(0, None): _aten.relu.default, (0, 6): _aten.relu6.default}
    if bounds not in targets:
        return 0
    replace(node, targets[bounds], (given["self"],))
    return 1


def _unify_product(node: fx.Node) -> int:
    for one, other in _factors(node):
        gates = {_aten.sigmoid.default: _aten.silu, _aten.hardsigmoid.default: _aten.hardswish}
        if isinstance(other, fx.Node) and other.target in gates and other.args[0] is one:
            replace(node, gates[other.target].default, (one,))
            return 1
        source = _relu6_of_plus_3(one)
        if source is not None and _near(other, 1 / 6):
            replace(node, _aten.hardsigmoid.default, (source,))
            return 1
        # (x * relu6(x + 3)) / 6
        if _near(other, 1 / 6) and is_call(one, _aten.mul.Tensor):
            for inner, gate in _factors(one):
                if inner is not None and _relu6_of_plus_3(gate) is inner:
                    replace(node, _aten.hardswish.default, (inner,))
                    return 1
    source = _gelu(node)
    if source is not None:
        replace(node, _aten.gelu.default, (source,))
        return 1
    return 0


def _gelu(node: Any) -> Any:
    """x where the call computes x * 0.5 * (1 + erf(x / sqrt 2)), in any order."""
    factors, halves, source = [node], 1.0, None
    leaves: list[Any] = []
    while factors:
        factor = factors.pop()
        pairs = _factors(factor) if factor is node or used_once(factor) else []
        if pairs and len(leaves) < 4:
            factors += pairs[0]
        elif (number := _number(factor)) is not None:
            halves *= number
        else:
            leaves.append(factor)
    if len(leaves) != 2 or abs(halves - 0.5) > 1e-7:
        return None
    for one, other in (leaves, leaves[::-1]):
        source = _plus(other, 1)
        if is_call(source, _aten.erf.default):
            for inner, number in _factors(source.args[0]):
                if inner is one and _near(number, math.sqrt(0.5)):
                    return one
    return None


def _relu6_of_plus_3(node: Any) -> Any:
    return _plus(node.args[0], 3) if is_call(node, _aten.relu6.default) else None


def _plus(node: Any, number: int) -> Any:
    """x where the node computes x + number."""
    if is_call(node, _aten.add.Tensor, _aten.add.Scalar) and arguments(node)["alpha"] == 1:
        one, other = node.args[:2]
        if _number(other) == number:
            return one
        if _number(one) == number:
            return other
    return None


def _factors(node: Any) -> list[tuple[Any, Any]]:
    """The two factors of a product, both ways round; a quotient's second is the inverse."""
    if not is_call(node, *_PRODUCTS):
        return []
    one, other = node.args[:2]
    if node.target in (_aten.div.Tensor, _aten.div.Scalar):
        number = _number(other)
        return [(one, 1 / number)] if number else []
    return [(one, other), (other, one)]


def _number(value: Any) -> float | None:
    tensor = constant(value)
    if tensor is not None:
        return float(tensor) if tensor.numel() == 1 else None
    return float(value) if isinstance(value, (int, float)) else None


def _near(value: Any, number: float) -> bool:
    found = _number(value)
    return found is not None and abs(found - number) < 1e-7
