"""Calls that return what they were given are dropped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from zoo.compiler.graph import (
    arguments,
    bypass,
    calls,
    clean,
    constant,
    dim,
    overloads,
    replace,
    same_shape,
)

_aten = torch.ops.aten

_ASSERTIONS = overloads(
    _aten._assert_async,
    _aten._assert_scalar,
    _aten._assert_tensor_metadata,
    _aten.sym_constrain_range,
    _aten.sym_constrain_range_for_size,
)
_COPIES = overloads(
    _aten.alias,
    _aten.clone,
    _aten.contiguous,
    _aten.detach,
    _aten.lift_fresh,
    _aten.lift_fresh_copy,
    _aten.to,
    _aten.type_as,
    _aten._to_copy,
)
_TO = overloads(_aten.to)  # may be asked for a copy
# Of these the result has memory of its own even where nothing changes.
_FRESH = (
    *overloads(_aten.clone, _aten.lift_fresh_copy, _aten._to_copy),
    *overloads(_aten.add, _aten.sub, _aten.mul, _aten.div),
    _aten.pad.default,
    _aten.constant_pad_nd.default,
)
_DROPOUTS = (
    _aten.dropout.default,
    _aten.feature_dropout.default,
    _aten.alpha_dropout.default,
    _aten.feature_alpha_dropout.default,
)
# With the same shape in and out, the elements are the same too.
_SHAPES = (
    _aten.expand.default,
    _aten.flatten.using_ints,
    _aten.reshape.default,
    _aten.slice.Tensor,
    _aten.squeeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
    _aten.view.default,
)
_ORDERS = (_aten.permute.default, _aten.transpose.int, _aten.t.default)


def drop_assertions(graph_module: fx.GraphModule) -> int:
    """Assertions about shapes and dtypes; the caller checks its inputs once."""
    found = list(calls(graph_module, *_ASSERTIONS))
    for node in found:
        graph_module.graph.erase_node(node)
    clean(graph_module)
    return len(found)


def drop_noops(graph_module: fx.GraphModule) -> int:
    """Dropout in eval mode, copies to the same dtype and device, views of the same shape.

    What only changes strides is such a copy too, and so ``view``, which may refuse strides,
    becomes ``reshape``. Of several results a copy stays one: the caller may write to either. (Not
    what ``contiguous`` copies: features in channels_last would be copied for it, one and all.)
    """
    if any(calls(graph_module, _aten.as_strided.default)):
        return 0  # it reads memory, not elements: strides matter
    count = 0
    (output,) = graph_module.graph.find_nodes(op="output")
    several = len(output.all_input_nodes) > 1
    for node in calls(graph_module, _aten.view.default, _aten._unsafe_view.default):
        replace(node, _aten.reshape.default, tuple(node.args[:2]))
    for node in list(graph_module.graph.nodes):
        source = _unchanged(node)
        if source is not None and not (several and _is_fresh(node) and _returned(node)):
            bypass(node, source)
            count += 1
    clean(graph_module)
    return count


def _returned(node: fx.Node) -> bool:
    """Whether the caller gets what the node computes, or a view of it."""
    return any(
        user.op == "output" or (_may_be_view(user) and _returned(user)) for user in node.users
    )


def _is_fresh(node: fx.Node) -> bool:
    if node.target in _TO:
        return bool(arguments(node).get("copy"))
    return node.target in _FRESH


def _may_be_view(node: fx.Node) -> bool:
    if not isinstance(node.target, OpOverload):
        return node.op == "call_function"  # one of several results, say of chunk
    if _is_fresh(node):
        return False
    aliases = any(result.alias_info is not None for result in node.target._schema.returns)
    return aliases or node.target in (*_COPIES, *_DROPOUTS, *_SHAPES, *_ORDERS)


def _unchanged(node: fx.Node) -> fx.Node | None:
    """The input that the call returns as it is, if it does."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    source, target = node.args[0], node.target
    if target in _DROPOUTS:
        return source if not arguments(node)["train"] else None
    before, after = source.meta.get("val"), node.meta.get("val")
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return None
    # What a pass has added describes itself on the meta device.
    if before.dtype != after.dtype or before.device not in (after.device, torch.device("meta")):
        return None
    if target in _COPIES:
        return source
    if target in _SHAPES:
        return source if same_shape(source, node) else None
    if target in _ORDERS:
        return source if permutation(node) == list(range(dim(source))) else None
    if not same_shape(source, node):
        return None
    other = node.args[1] if len(node.args) > 1 else None
    if target in (_aten.add.Tensor, _aten.sub.Tensor, _aten.add.Scalar, _aten.sub.Scalar):
        return source if _is_number(other, 0) else None
    if target in (_aten.mul.Tensor, _aten.div.Tensor, _aten.mul.Scalar, _aten.div.Scalar):
        return source if _is_number(other, 1) else None
    if target in (_aten.pad.default, _aten.constant_pad_nd.default):
        return source if not any(other or ()) else None  # type: ignore[arg-type]
    return None


def compose_permutations(graph_module: fx.GraphModule) -> int:
    """A permutation of a permutation is one, and none where the second undoes the first."""
    count = 0
    for node in calls(graph_module, *_ORDERS):
        inner = node.args[0]
        if isinstance(inner, fx.Node) and inner.target in _ORDERS:
            first, second = permutation(inner), permutation(node)
            source = inner.args[0]
            assert isinstance(source, fx.Node)
            order = [first[axis] for axis in second]
            if order == list(range(len(order))):
                bypass(node, source)
            else:
                replace(node, _aten.permute.default, (source, order))
            count += 1
    clean(graph_module)
    return count


def permutation(node: Any) -> list[int]:
    """Output axis i of the permute, transpose or t is the input's axis permutation(node)[i]."""
    rank = dim(node.args[0])
    if node.target is _aten.permute.default:
        return [axis % rank for axis in node.args[1]]
    order = list(range(rank))
    one, two = node.args[1:3] if node.target is _aten.transpose.int else (0, rank - 1)
    order[one], order[two] = order[two], order[one]
    return order


def _is_number(value: Any, number: int) -> bool:
    tensor = constant(value)
    if tensor is not None:
        return tensor.numel() == 1 and tensor.item() == number
    return isinstance(value, (int, float)) and value == number
