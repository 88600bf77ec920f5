"""What depends on the module's own tensors alone is computed once."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import unset_fake_temporarily

from zoo.compiler.graph import add_constant, clean, constant

_LIMIT = 1 << 26  # bytes of a folded tensor: that of a large layer's weight


def fold_constants(graph_module: fx.GraphModule) -> int:
    """Normalised weights, position encodings, blur filters: computed as the module would.

    Random ops stay, and so do results that are larger than 64 MiB.
    """
    graph = graph_module.graph
    values: dict[fx.Node, Any] = {}
    with unset_fake_temporarily(), torch.inference_mode(False), torch.no_grad():
        for node in graph.nodes:
            own = constant(node) if node.op == "get_attr" else None
            if own is not None:
                values[node] = own
            elif _can_fold(node, values):
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                result = node.target(*args, **kwargs)
                if _bytes(result) <= _LIMIT:
                    values[node] = result
    count = 0
    for node, value in values.items():
        if node.op == "get_attr" or all(user in values for user in node.users):
            continue
        if isinstance(value, Tensor):
            node.replace_all_uses_with(add_constant(node, value, f"folded_{node.name}"))
            count += 1
        elif isinstance(value, (int, float, bool)):
            for user in list(node.users):
                user.args, user.kwargs = fx.node.map_arg(
                    (user.args, user.kwargs), partial(_exchanged, node, value)
                )
            count += 1
    clean(graph_module)
    return count


def _can_fold(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    if node.op != "call_function" or any(source not in values for source in node.all_input_nodes):
        return False
    if not isinstance(node.target, OpOverload):
        return getattr(node.target, "__module__", "") == "_operator"
    return (
        torch.Tag.nondeterministic_seeded not in node.target.tags
        and not node.target._schema.is_mutable
        and not node.is_impure()
    )


def _exchanged(old: fx.Node, value: Any, argument: fx.Node) -> Any:
    return value if argument is old else argument


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0
