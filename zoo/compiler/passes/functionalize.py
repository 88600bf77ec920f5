"""In-place ops become ops that return a new tensor, where no view of their input is alive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from zoo.compiler.graph import arguments, bypass, insert, is_call

_aten = torch.ops.aten

# In eval mode they return their input itself, which their schemas do not say.
_RETURN_INPUT = (
    _aten.dropout.default,
    _aten.feature_dropout.default,
    _aten.alpha_dropout.default,
    _aten.feature_alpha_dropout.default,
)


def functionalize(graph_module: fx.GraphModule) -> int:
    """Rewrite ``y = relu_(x)`` to ``y = relu(x)``; what reads x afterwards reads y."""
    count = 0
    aliases = _Aliases()
    order = {node: index for index, node in enumerate(graph_module.graph.nodes)}
    for node in list(graph_module.graph.nodes):
        written = _written(node)
        if len(written) == 1 and _is_safe(node, written[0], aliases, order):
            target = _functional(node)
            if target is not None:
                new = insert(node, target, node.args, dict(node.kwargs), like=node)
                order[new] = order[node]
                for user in [user for user in written[0].users if order[user] > order[node]]:
                    user.replace_input_with(written[0], new)
                bypass(node, new)
                aliases.add(new)
                count += 1
                continue
        aliases.add(node)
    return count


def written_state(node: fx.Node) -> str | None:
    """Which of the caller's tensors the call changes: "inputs", "buffers", or None."""
    # Both update running statistics, args[3], where args[5] is true; their schemas do not say so.
    if is_call(node, _aten.batch_norm.default, _aten.instance_norm.default):
        return "buffers" if node.args[5] and node.args[3] is not None else None
    for source in _written(node):
        while source.op == "call_function" and (views := list(_viewed(source))):
            source = views[0]
        if source.op == "placeholder":
            return "inputs"
        if source.op == "get_attr":
            return "buffers"
    return None


class _Aliases:
    """Which nodes may share memory: those of one group."""

    def __init__(self) -> None:
        self._groups: dict[fx.Node, set[fx.Node]] = {}

    def add(self, node: fx.Node) -> None:
        group = {node}
        for source in (*_viewed(node), *_written(node)):
            group |= self._groups.get(source, {source})
        for member in group:
            self._groups[member] = group

    def of(self, node: fx.Node) -> set[fx.Node]:
        return self._groups.get(node, {node})


def _is_safe(node: fx.Node, written: fx.Node, aliases: _Aliases, order: dict[fx.Node, int]) -> bool:
    """Whether nothing reads the memory afterwards but through ``written`` and the result."""
    group = aliases.of(written)
    if any(member.op in ("placeholder", "get_attr") for member in group):
        return False
    others = group - {written}
    return not any(order[user] > order[node] for member in others for user in member.users)


def _functional(node: fx.Node) -> OpOverload | None:
    """``aten.relu.default`` for ``aten.relu_.default``, if it gives the same dtype and shape."""
    assert isinstance(node.target, OpOverload)
    name, overload = node.target._schema.name, node.target._overloadname
    namespace, _, short = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), short.removesuffix("_"), None)
    target = getattr(packet, overload, None) if short.endswith("_") else None
    values = [source.meta.get("val") for source in node.all_input_nodes]
    dtypes = {value.dtype for value in values if isinstance(value, Tensor)}
    own = node.meta["val"].dtype
    mixed = any(dtype.is_floating_point or dtype.is_complex for dtype in dtypes - {own})
    if mixed or (not own.is_floating_point and len(dtypes) > 1):
        return None  # in place, the result keeps its dtype; otherwise types are promoted
    return target


def _written(node: fx.Node) -> list[fx.Node]:
    """The tensors that a call changes."""
    return list(_annotated(node, True))


def _viewed(node: fx.Node) -> Iterator[fx.Node]:
    """The tensors that a call's results may be views of."""
    if is_call(node, *_RETURN_INPUT):
        yield node.args[0]  # type: ignore[misc]
    elif node.op == "call_function" and not isinstance(node.target, OpOverload):
        yield from node.all_input_nodes  # getitem of a split, and ops that we know nothing about
    else:
        yield from _annotated(node, False)


def _annotated(node: fx.Node, is_write: bool) -> Iterator[fx.Node]:
    if not isinstance(node.target, OpOverload):
        return
    bound: dict[str, Any] = arguments(node)
    for argument in node.target._schema.arguments:
        alias = argument.alias_info
        if alias is not None and alias.is_write == is_write:
            value = bound[argument.name]
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(item, fx.Node):
                    yield item
