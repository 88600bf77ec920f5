"""What a network's plan consists of: one stage, or one in parts and one for the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from zoo.compiler.capture import Captured
from zoo.compiler.choices import Choices
from zoo.compiler.lowering import Lowering, build
from zoo.compiler.parts import cut, has_memory


@dataclass(frozen=True)
class Stage:
    """A part of a network.

    Attributes:
        lowering: what it was made from.
        plan: of ``zoo._C``, for a part of the batch.
        parts: how many parts there are.
    """

    lowering: Lowering
    plan: Any
    parts: int = 1

    def run(self, tensors: list[Tensor]) -> list[Tensor]:
        """The outputs that are tensors."""
        if self.parts == 1:
            found: list[Tensor] = self.plan.run(tensors)
            return found
        return [self.plan.run_parts(tensors, self.parts)]

    @property
    def arena_bytes(self) -> int:
        """What its values take while it runs."""
        at_once = min(self.parts, torch.get_num_threads())
        return int(self.plan.arena_bytes) * at_once

    def run_timed(self, tensors: list[Tensor]) -> tuple[list[Tensor], list[float]]:
        """The same, and the seconds of each step; of parts, what the first implies for all."""
        if self.parts == 1:
            outputs, times = self.plan.run_timed(tensors)
            return outputs, [each / 1e9 for each in times]
        first = [tensor[: len(tensor) // self.parts] for tensor in tensors]
        rounds = self.parts / torch.get_num_threads()
        return self.run(tensors), [each * rounds / 1e9 for each in self.plan.run_timed(first)[1]]


def stages(
    captured: Captured, leaves: Sequence[Any], precision: str, weights: Any, choices: Choices
) -> tuple[Stage, ...]:
    """The stages for these flattened inputs and the number of threads that is set.

    Args:
        precision: "exact" avoids Winograd's convolutions.
        weights: packed ones, which they share.
        choices: of kernels.
    """
    threads = torch.get_num_threads()
    found = cut(captured, leaves, precision, threads)
    if found is not None:
        part = [leaf[: found.images] if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        lowering = Lowering(found.first, part, precision, choices)
        result = _result(found.first)
        if has_memory(lowering, result):
            batch = next(len(leaf) for leaf in leaves if isinstance(leaf, Tensor))
            first = Stage(lowering, build(lowering, weights, 1), batch // found.images)
            if found.rest is None:
                return (first,)
            fake = lowering.value(result).fake
            strides = (fake[0].numel(), *fake.stride()[1:])
            whole = torch.empty_strided((batch, *fake.shape[1:]), strides, device="meta")
            rest = Lowering(found.rest, [whole], precision, choices, threads)
            return first, Stage(rest, build(rest, weights, threads))
    lowering = Lowering(captured.graph_module, leaves, precision, choices, threads)
    return (Stage(lowering, build(lowering, weights, threads)),)


def _result(graph_module: fx.GraphModule) -> fx.Node:
    """The one node whose value the graph returns."""
    (output,) = graph_module.graph.find_nodes(op="output")
    node: fx.Node = output.all_input_nodes[0]
    return node
