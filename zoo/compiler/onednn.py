"""A convolution as a step of oneDNN's, where that was measured to be faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import unset_fake_temporarily

from zoo.compiler.lowering import Lowering
from zoo.compiler.values import Value, Weight
from zoo.ops import onednn

_mkldnn = torch.ops.mkldnn


def convolution(
    lowering: Lowering,
    node: fx.Node,
    source: Value,
    weight: Weight,
    bias: Value | None,
    residual: Value | None,
    activation: str,
    size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Value | None:
    """activation(conv2d(source) + residual) of this size (N, O, H, W).

    None where oneDNN does not fuse all of it, or is not there.
    """
    if not onednn.available() or (residual is not None and activation not in ("none", "relu")):
        return None
    where = (padding, stride, dilation, groups)
    scale = weight.scale
    places = (weight.plain.data_ptr(), None if scale is None else scale.data_ptr())
    key = (*places, lowering.cases[node.name])
    if key not in lowering.choices.packed:
        with unset_fake_temporarily(), torch.no_grad():
            packed = onednn.pack(weight.product(), *where, list(source.fake.shape))
        lowering.choices.packed[key] = weight, packed
    packed = lowering.choices.packed[key][1]
    fused = onednn.ACTIVATIONS[activation]
    fake = torch.empty(size, memory_format=torch.channels_last)
    target = _mkldnn._convolution_pointwise.default
    args: tuple[Any, ...] = (source, packed, bias, *where, *fused)
    if residual is not None:
        target = _mkldnn._convolution_pointwise.binary
        then = fused if activation != "none" else (None, [], None)
        args = (source, residual, packed, bias, *where, "add", None, *then)
    sources = [value for value in (source, residual, bias) if value is not None]
    (result,) = lowering.foreign(node.name, target, args, {}, [fake], sources)
    return result
