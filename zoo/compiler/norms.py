"""How norms that depend on the input become steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from zoo.compiler.lowering import Lowering, native
from zoo.compiler.pointwise import activation_of
from zoo.compiler.values import Value, is_float, is_map

_aten = torch.ops.aten


def _affine(lowering: Lowering, args: dict[str, Any]) -> list[Value | None]:
    """The norm's weight and bias, where it has them."""
    return [
        None if args[name] is None else lowering.value(args[name]) for name in ("weight", "bias")
    ]


def _dense(values: list[Value | None]) -> bool:
    given = [value for value in values if value is not None]
    return all(is_float(value) and value.fake.is_contiguous() for value in given)


def _views(*values: Value | None) -> list[Any]:
    return [None if value is None else value.view() for value in values]


@native(_aten.layer_norm.default)
def _layer_norm(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    """Over the last dimension, whose elements lie together."""
    source = lowering.value(args["input"])
    weight, bias = _affine(lowering, args)
    if not _dense([source, weight, bias]):
        return None
    if len(args["normalized_shape"]) != 1 or source.fake.numel() == 0:
        return None
    output = lowering.rows(source.fake.shape)
    return lowering.step(
        node.name,
        "layer_norm",
        [source, weight, bias],
        output,
        lambda plan: plan.layer_norm(
            source.view(),
            output.view(),
            *_views(weight, bias),
            float(args["eps"]),
        ),
        over=source,
    )


@native(_aten.group_norm.default)
def _group_norm(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    """Of maps in channels_last; with the activation behind it, where that alone reads it."""
    source = lowering.value(args["input"])
    weight, bias = _affine(lowering, args)
    if not is_map(source) or source.fake.numel() == 0 or not _dense([weight, bias]):
        return None
    if not source.fake.is_contiguous(memory_format=torch.channels_last):
        return None

    def step(last: fx.Node, activation: str) -> Value:
        output = lowering.map(source.fake.shape)
        return lowering.step(
            node.name,
            "group_norm",
            [source, weight, bias],
            output,
            lambda plan: plan.group_norm(
                source.view(),
                output.view(),
                *_views(weight, bias),
                int(args["num_groups"]),
                float(args["eps"]),
                activation,
            ),
            over=source,
        )

    users = list(node.users)
    if len(users) == 1 and activation_of(users[0]) is not None:
        lowering.normed[node] = step
        return lowering.view(source, source.fake)
    return step(node, "none")
