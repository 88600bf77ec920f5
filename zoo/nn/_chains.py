"""Finds chains in a traced graph, and puts one call in the place of each.

A chain is computed where its last node was. So nothing that it reads may change between its first
node and its last, and nothing may change its result or its residual in place afterwards: the op may
have kept them.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import fx, nn

from zoo.nn._activations import FROM_OUTPUT, bn_activation, module_activation, node_activation
from zoo.nn._batch_norm import is_plain
from zoo.nn._chain import Chain
from zoo.nn._effects import IN_PLACE, changed_by, is_fresh, may_be_view
from zoo.nn._pools import module_is_pool, node_is_pool

_ADDS = {operator.add, operator.iadd, torch.add, IN_PLACE["__iadd__"]}
_ADD_METHODS = {"add", "add_", "__add__", "__iadd__"}


def is_batch_norm(module: nn.Module) -> bool:
    """Whether it is ``nn.BatchNorm2d``, or timm's that has an activation in itself."""
    if not isinstance(module, nn.BatchNorm2d):
        return False
    kind = type(module)
    timms = (kind.__module__, kind.__name__) == ("timm.layers.norm_act", "BatchNormAct2d")
    return timms or kind.forward is nn.BatchNorm2d.forward


def is_conv(module: nn.Module) -> bool:
    """Whether it convolves as ``nn.Conv2d`` does: some classes prepare the weight or pad first."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module).forward is nn.Conv2d.forward
        and type(module)._conv_forward is nn.Conv2d._conv_forward
    )


class ChainFinder:
    """The chains of a graph, which do not overlap."""

    def __init__(self, graph: fx.Graph, module_at: Callable[[str], nn.Module]) -> None:
        self._module_at = module_at
        self._order = {node: number for number, node in enumerate(graph.nodes)}
        self._nodes = list(graph.nodes)
        self._calls = Counter(id(self._module(node)) for node in graph.nodes)
        self._taken: set[fx.Node] = set()

    def find(self) -> list[tuple[Chain, list[fx.Node], fx.Node | None]]:
        """Each chain with its nodes, in order, and that of them which adds a residual."""
        found = []
        # A sum of two convolutions goes to one with a BatchNorm, whose output is read anyway.
        for node in sorted(self._nodes, key=lambda node: self._batch_norm_of(node) is None):
            best = None
            for chain, nodes, add in self._from(node):
                kept = [] if chain.activation == "none" else [nodes[-1]]
                kept += [each for each in add.all_input_nodes if each not in nodes] if add else []
                if self._may_move(nodes, add) and not any(map(self._changed_later, kept)):
                    best = chain, nodes, add
            if best is not None:
                found.append(best)
                self._taken.update(best[1])
        return sorted(found, key=lambda each: self._order[each[1][0]])

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self._module_at(str(node.target)) if node.op == "call_module" else None

    def _from(self, node: fx.Node) -> Iterator[tuple[Chain, list[fx.Node], fx.Node | None]]:
        """The chain that begins with a convolution, longer each time."""
        conv = self._module(node)
        if not (
            conv is not None
            and is_conv(conv)
            and self._once(conv)
            and conv.padding_mode == "zeros"
            and len(node.args) == 1
            and not node.kwargs
        ):
            return
        assert isinstance(conv, nn.Conv2d)
        chain, nodes, add = Chain(str(node.target), conv), [node], None
        user, bn = self._only_user(node), self._batch_norm_of(node)
        if user and bn is not None:
            kind = bn_activation(bn)
            if kind is None:
                return
            nodes = [*nodes, user]
            chain = replace(chain, bn=bn, activation=kind, in_bn=hasattr(bn, "act"))
            yield chain, nodes, add
            if kind != "none":
                return
            user = self._only_user(user)
        if user and self._adds_to(user, nodes[-1]):
            nodes, add = [*nodes, user], user
            chain = replace(chain, residual=True)
            yield chain, nodes, add
            user = self._only_user(user)
        if user:
            act = self._module(user)
            kind = node_activation(user) if act is None else module_activation(act)
            free = chain.bn is not None and not chain.residual
            if kind not in (None, "none") and (free or kind in FROM_OUTPUT):
                if act is not None and not is_plain(act):
                    return
                nodes = [*nodes, user]
                chain = replace(chain, activation=kind, act=act, in_bn=False)
                yield chain, nodes, add
                user = self._only_user(user)
        if user and chain.bn is None and not chain.residual:
            pool = self._module(user)
            if node_is_pool(user) if pool is None else module_is_pool(pool):
                yield replace(chain, pool=True, pool_module=pool), [*nodes, user], add

    def _batch_norm_of(self, node: fx.Node) -> nn.BatchNorm2d | None:
        """What alone takes a node's value, if that is a BatchNorm."""
        user = self._only_user(node)
        bn = self._module(user) if user else None
        found = isinstance(bn, nn.BatchNorm2d) and is_batch_norm(bn) and self._once(bn)
        return bn if found and isinstance(bn, nn.BatchNorm2d) else None

    def _once(self, module: nn.Module) -> bool:
        return self._calls[id(module)] == 1 and is_plain(module)

    def _only_user(self, node: fx.Node) -> fx.Node | None:
        """The one node that takes this one's value, once."""
        if len(node.users) != 1:
            return None
        (user,) = node.users
        uses: list[fx.Node] = []
        fx.node.map_arg((user.args, user.kwargs), uses.append)
        free = user not in self._taken and user.op != "output"
        return user if free and uses.count(node) == 1 else None

    def _adds_to(self, user: fx.Node, value: fx.Node) -> bool:
        """Whether a node adds another one to a value, and no number."""
        name = user.target
        adds = name in _ADDS if user.op == "call_function" else name in _ADD_METHODS
        if user.op not in ("call_function", "call_method") or not adds or len(user.args) != 2:
            return False
        if user.kwargs.get("alpha", 1) != 1 or set(user.kwargs) - {"alpha"}:
            return False
        left, right = user.args
        if right is value and self._changed_by(user):
            return False  # the other one is changed, and may be known elsewhere
        return isinstance(left, fx.Node) and isinstance(right, fx.Node)

    def _may_move(self, nodes: list[fx.Node], add: fx.Node | None) -> bool:
        """Whether all of it can be computed where its last node is."""
        first, last = self._order[nodes[0]], self._order[nodes[-1]]
        added = last if add is None else self._order[add]
        # What the sum has read may have been new to the chain, and must stay from then on.
        return all(
            self._is_newer(changed, first if self._order[node] < added else added)
            for node in self._nodes[first:last]
            if node not in nodes
            for changed in self._changed_by(node)
        )

    def _is_newer(self, value: fx.Node, first: int) -> bool:
        """Whether a value lies in memory that was taken after a node."""
        if self._order[value] < first:
            return False
        changed = self._changed_by(value)
        if changed:
            return all(self._is_newer(each, first) for each in changed)
        return is_fresh(self._module(value))

    def _changed_later(self, node: fx.Node) -> bool:
        """Whether a node's output, or what may be a view of it, is changed in place."""
        return any(
            node in self._changed_by(user)
            or (may_be_view(user, self._module(user)) and self._changed_later(user))
            for user in node.users
        )

    def _changed_by(self, node: fx.Node) -> list[fx.Node]:
        return changed_by(node, self._module(node))


def insert(graph: fx.Graph, target: str, nodes: list[fx.Node], add: fx.Node | None) -> None:
    """Put a call of what is at ``target`` in the place of a chain's nodes."""
    last, arguments = nodes[-1], [nodes[0].args[0]]
    if add is not None:
        arguments += [each for each in add.args if each not in nodes]
    with graph.inserting_before(last):
        call = graph.create_node("call_module", target, tuple(arguments))
    last.replace_all_uses_with(call)
    for node in reversed(nodes):
        graph.erase_node(node)
