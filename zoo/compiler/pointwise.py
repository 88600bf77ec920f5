"""How sums, products and activations become steps: what no convolution could take in."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from zoo.compiler.deferred import gate
from zoo.compiler.graph import arguments
from zoo.compiler.lowering import Lowering, four, native
from zoo.compiler.values import Value, is_float

_aten = torch.ops.aten
_zoo = torch.ops.zoo


def _pointwise(
    lowering: Lowering,
    node: fx.Node,
    source: Value,
    scale: Value | None = None,
    shift: Value | None = None,
    activation: str = "none",
) -> Value | None:
    """activation(source * scale + shift), where scale and shift broadcast to source."""
    sizes = source.fake.shape
    if not all(is_float(value) for value in (source, scale, shift) if value is not None):
        return None
    if len(sizes) > 4 or source.fake.numel() == 0:
        return None
    output = lowering.empty_like(source, node)

    def spread(value: Value | None) -> Any:
        return None if value is None else value.view(four(value.fake.expand(sizes)))

    return lowering.step(
        node.name,
        "scale_shift",
        [source, scale, shift],
        output,
        lambda plan: plan.scale_shift(
            source.view(four(source.fake)),
            output.view(four(output.fake)),
            spread(scale),
            spread(shift),
            activation,
        ),
        over=source,
    )


@native(_zoo.scale_shift.default)
def _scale_shift(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    deferred = gate(lowering, node, args)
    if deferred is not None:
        return deferred
    scale, shift = (
        None if args[name] is None else lowering.value(args[name]) for name in ("scale", "shift")
    )
    return _pointwise(
        lowering, node, lowering.value(args["input"]), scale, shift, args["activation"]
    )


def _operands(lowering: Lowering, args: dict[str, Any]) -> tuple[Value | None, Value | None]:
    """Both operands, the one of the result's shape first; None, None where neither has it."""
    one, other = (
        lowering.value(args[name])
        if isinstance(args[name], fx.Node)
        else lowering.number(float(args[name]))  # as PyTorch takes it beside floats
        for name in ("self", "other")
    )
    if not (is_float(one) and is_float(other)):
        return None, None
    shape = (one.fake + other.fake).shape
    if one.fake.shape != shape:
        one, other = other, one
    return (one, other) if one.fake.shape == shape else (None, None)


@native(_aten.add.Tensor, _aten.add.Scalar)
def _add(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    one, other = _operands(lowering, args)
    if one is None or args["alpha"] != 1:
        return None
    return _pointwise(lowering, node, one, shift=other)


@native(_aten.mul.Tensor, _aten.mul.Scalar)
def _mul(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    one, other = _operands(lowering, args)
    return None if one is None else _pointwise(lowering, node, one, scale=other)


_ACTIVATIONS = {
    _aten.relu.default: "relu",
    _aten.relu6.default: "relu6",
    _aten.sigmoid.default: "sigmoid",
    _aten.tanh.default: "tanh",
    _aten.silu.default: "silu",
    _aten.gelu.default: "gelu",
    _aten.hardswish.default: "hardswish",
    _aten.hardsigmoid.default: "hardsigmoid",
    _aten.leaky_relu.default: "leaky_relu",
}


def activation_of(node: fx.Node) -> str | None:
    """The activation of ours that a node computes."""
    if node.target not in _ACTIVATIONS:
        return None
    args = arguments(node)
    if args.get("approximate", "none") != "none" or args.get("negative_slope", 0.01) != 0.01:
        return None
    return _ACTIVATIONS[node.target]


@native(*_ACTIVATIONS)
def _activation(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    activation = activation_of(node)
    if activation is None:
        return None
    if args["self"] in lowering.normed:
        return lowering.normed[args["self"]](node, activation)
    return _pointwise(lowering, node, lowering.value(args["self"]), activation=activation)
