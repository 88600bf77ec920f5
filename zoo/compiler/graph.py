"""Reading and changing fx graphs of ATen ops: what the passes share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.experimental.symbolic_shapes import statically_known_true


def owner(node: fx.Node) -> fx.GraphModule:
    """The graph module that the node belongs to."""
    module = node.graph.owning_module
    assert module is not None
    return module


def calls(graph_module: fx.GraphModule, *targets: OpOverload) -> Iterator[fx.Node]:
    """The graph's calls of these ops in order; nodes may be replaced on the way."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target in targets and not node._erased:
            yield node


def sums(graph_module: fx.GraphModule) -> Iterator[tuple[fx.Node, Any, Any]]:
    """The graph's sums of two float32 tensors of one shape, each with its summands."""
    for node in calls(graph_module, torch.ops.aten.add.Tensor):
        one, other = node.args[:2]
        if (
            arguments(node)["alpha"] == 1
            and all(map(is_float32, (node, one, other)))
            and same_shape(one, other)
        ):
            yield node, one, other


def is_call(node: Any, *targets: Any) -> bool:
    """Whether this is a call of one of these ops."""
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets


def arguments(node: Any) -> dict[str, Any]:
    """A call's arguments by name, defaults included."""
    assert isinstance(node.target, OpOverload)
    bound: dict[str, Any] = {}
    for index, argument in enumerate(node.target._schema.arguments):
        if not argument.kwarg_only and index < len(node.args):
            bound[argument.name] = node.args[index]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value
    return bound


def constant(node: Any) -> Tensor | None:
    """The tensor that the node names, if it is one of the graph module's own, or their product."""
    factors = scaled(node)
    if factors is None:
        return _named(node)
    weight, scale = map(_named, factors)
    assert weight is not None
    assert scale is not None
    return weight.detach() * scale


def is_constant(node: Any) -> bool:
    """Whether :func:`constant` gives a tensor; without computing a product."""
    return _named(node) is not None or scaled(node) is not None


def scaled(node: Any) -> tuple[fx.Node, fx.Node] | None:
    """The weight and the scale of its filters, where the node is the product of such constants.

    A weight into which a BatchNorm is folded stays one until it is packed: the plain product would
    take as much memory as the module's own weight.
    """
    if not is_call(node, torch.ops.aten.mul.Tensor) or node.kwargs:
        return None
    weight, scale = map(_named, node.args)
    if weight is None or scale is None or weight.dim() < 2:
        return None
    if {weight.dtype, scale.dtype} != {torch.float32}:
        return None
    if scale.shape != (len(weight), *[1] * (weight.dim() - 1)):
        return None
    return node.args[0], node.args[1]


def _named(node: Any) -> Tensor | None:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value = getattr(owner(node), str(node.target))
    return value if isinstance(value, Tensor) else None


def shape(node: Any) -> Sequence[int | torch.SymInt] | None:
    """The shape of the tensor that the node computes; None where it computes something else."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value.shape if isinstance(value, Tensor) else None


def dim(node: Any) -> int:
    """The number of dimensions; -1 for what is no tensor."""
    sizes = shape(node)
    return -1 if sizes is None else len(sizes)


def is_float32(node: Any) -> bool:
    """Whether the node computes a float32 tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return isinstance(value, Tensor) and value.dtype == torch.float32


def overloads(*packets: torch._ops.OpOverloadPacket[..., Any]) -> tuple[OpOverload, ...]:
    """All overloads of these ops but those that write to an output of the caller's."""
    return tuple(
        getattr(packet, name)
        for packet in packets
        for name in packet.overloads()  # type: ignore[no-untyped-call]
        if name != "out" and not name.endswith("_out")
    )


def same(one: Any, other: Any) -> bool:
    """Whether two sizes are equal for all inputs, without a guard that would make them so."""
    return bool(statically_known_true(one == other))


def same_shape(node: Any, other: Any) -> bool:
    """Whether two nodes' tensors have one shape for all inputs."""
    one, two = shape(node), shape(other)
    return (
        one is not None
        and two is not None
        and len(one) == len(two)
        and all(same(a, b) for a, b in zip(one, two, strict=True))
    )


def used_once(node: Any) -> bool:
    """Whether it is a node that one other uses, once."""
    if not isinstance(node, fx.Node) or len(node.users) != 1:
        return False
    user, times = next(iter(node.users)), 0

    def count(used: fx.Node) -> fx.Node:
        nonlocal times
        times += used is node
        return used

    fx.node.map_arg((user.args, user.kwargs), count)
    return times == 1


def add_constant(before: fx.Node, value: Tensor, name: str) -> fx.Node:
    """A new tensor of the graph module, and the node that names it, in front of ``before``."""
    module, graph = owner(before), before.graph
    stem = "".join(letter if letter.isalnum() else "_" for letter in name)
    target, count = stem, 0
    while hasattr(module, target):
        count += 1
        target = f"{stem}_{count}"
    module.register_buffer(target, value.detach())
    with graph.inserting_before(before):
        node = graph.get_attr(target)
    node.meta["val"] = torch.empty_strided(
        value.shape, value.stride(), dtype=value.dtype, device="meta"
    )
    return node


def insert(
    before: fx.Node,
    target: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    like: fx.Node,
) -> fx.Node:
    """A new call in front of ``before``, described as ``like``, whose shape it must have."""
    with before.graph.inserting_before(before):
        node = before.graph.call_function(target, args, kwargs)
    node.meta = dict(like.meta)
    return node


def replace(
    node: fx.Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> fx.Node:
    """Put a call of another op, which computes the same, in the node's place."""
    new = insert(node, target, args, kwargs, like=node)
    bypass(node, new)
    return new


def bypass(node: fx.Node, value: fx.Node) -> None:
    """Let the node's users use ``value`` instead, and remove the node."""
    node.replace_all_uses_with(value)
    node.graph.erase_node(node)


def with_arguments(node: Any, **changed: Any) -> dict[str, Any]:
    """A call's arguments other than the defaults, by name, some of them changed."""
    assert isinstance(node.target, OpOverload)
    defaults = {
        argument.name: argument.default_value
        for argument in node.target._schema.arguments
        if argument.has_default_value()
    }
    bound = {**arguments(node), **changed}
    return {
        name: value
        for name, value in bound.items()
        if name not in defaults or (value is not defaults[name] and value != defaults[name])
    }


def clean(graph_module: fx.GraphModule) -> None:
    """Remove what nothing uses: calls without effect, and tensors that no node names."""
    graph = graph_module.graph
    for node in reversed(graph.nodes):
        if not node.users and node.op in ("call_function", "get_attr"):
            graph.erase_node(node)
    named = {node.target for node in graph.nodes if node.op == "get_attr"}
    for name in list(graph_module._buffers):
        if name not in named:
            delattr(graph_module, name)
