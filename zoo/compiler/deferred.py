"""What has no step of its own, because the convolutions behind it do it: padding and gates."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from zoo.compiler.graph import arguments
from zoo.compiler.lowering import Lowering, native
from zoo.compiler.native import weights_of
from zoo.compiler.values import Value, Weight, is_map

_aten = torch.ops.aten
_zoo = torch.ops.zoo


def _convolution_of(lowering: Lowering, node: fx.Node, user: fx.Node) -> Weight | None:
    """The user's weight, if it is a convolution that becomes a step, and the node is its input."""
    if user.target not in (_zoo.conv2d.default, _zoo.conv2d_pool.default):
        return None
    read = arguments(user)
    weights = weights_of(lowering, read)
    if weights is None or read.pop("input") is not node or node in read.values():
        return None
    return weights[0]


@native(_aten.constant_pad_nd.default, _aten.pad.default)
def _pad(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    """No step where only convolutions read it: they pad by themselves."""
    source, pad = lowering.value(args["self"]), [int(size) for size in args["pad"]]
    pad += [0] * (4 - len(pad))
    if args.get("mode", "constant") != "constant" or args["value"] not in (None, 0):
        return None
    if not is_map(source) or len(pad) > 4 or min(pad) < 0:
        return None
    if any(_convolution_of(lowering, node, user) is None for user in node.users):
        return None
    left, right, top, bottom = pad
    lowering.padded[node] = (source, [top, bottom, left, right])
    batch, channels, height, width = source.fake.shape
    padded = [batch, channels, height + top + bottom, width + left + right]
    return lowering.view(source, torch.empty(padded))  # for its sizes: there is no such memory


def gate(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    """No step for the product of a squeeze-excite block where a 1x1 convolution alone reads it.

    It scales the input channels of its weights, for each image anew. That takes as long as scaling
    as many values of the map, and so it pays where there are fewer filters than pixels.
    """
    if args["shift"] is not None or args["activation"] != "none" or len(node.users) != 1:
        return None
    source = lowering.value(args["input"])
    scale = None if args["scale"] is None else lowering.value(args["scale"])
    if not is_map(source) or not is_map(scale) or scale.fake.shape[2:] != (1, 1):
        return None
    (user,) = node.users
    weight = _convolution_of(lowering, node, user)
    if weight is None or user.target is not _zoo.conv2d.default or arguments(user)["groups"] != 1:
        return None
    filters, _, *window = weight.shape
    height, width = source.fake.shape[2:]
    # A single filter may be packed as a depthwise one.
    if window != [1, 1] or not 1 < filters <= height * width:
        return None
    lowering.gated[node] = (source, scale)
    return lowering.view(source, source.fake)
