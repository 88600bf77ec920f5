"""What a plan does, step by step, and how long each takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo.compiler.network import Network


@dataclass(frozen=True)
class Layer:
    """One step of a plan.

    Attributes:
        name: of the graph's node.
        op: what it computes.
        kernel: what computes it; an ``aten::`` name where zoo has no kernel.
        shape: of its output.
        seconds: the least of several runs.
        flops: floating-point operations of a direct convolution or product; 0 for other steps.
        moved: bytes of the values that it reads and writes.
        weights: bytes of plain weights that it reads.
    """

    name: str
    op: str
    kernel: str
    shape: tuple[int, ...]
    seconds: float
    flops: int
    moved: int
    weights: int


@dataclass(frozen=True)
class Report:
    """A plan's steps in order, and its memory.

    Attributes:
        layers: the steps.
        arena_bytes: what the intermediate values take, workspaces included.
        weight_bytes: what the packed weights take.
        early: so many steps, the first, run for one part of the batch after the other, each by one
            thread; times are those of one part, times the parts that a thread computes.
        parts: how many parts there are.
    """

    layers: tuple[Layer, ...]
    arena_bytes: int
    weight_bytes: int
    early: int = 0
    parts: int = 1

    @property
    def in_parts(self) -> str:
        """A line that says which steps run for parts of the batch; empty where none do."""
        if not self.early:
            return ""
        early = "the first step runs" if self.early == 1 else f"the first {self.early} steps run"
        return f"{early} for {self.parts} parts of the batch, each by one thread"

    def __str__(self) -> str:
        total = sum(layer.seconds for layer in self.layers)
        lines = [f"{'layer':<28} {'shape':<18} {'kernel':<28} {'us':>8} {'%':>5} {'GFLOP/s':>8}"]
        for layer in self.layers:
            shape = "x".join(map(str, layer.shape))
            rate = f"{layer.flops / layer.seconds / 1e9:8.1f}" if layer.flops else ""
            lines.append(
                f"{layer.name:<28.28} {shape:<18} {layer.kernel:<28.28} "
                f"{layer.seconds * 1e6:>8.1f} {100 * layer.seconds / total:>5.1f} {rate}".rstrip()
            )
        lines.append(
            f"{len(self.layers)} steps, {total * 1e3:.2f} ms; memory: "
            f"{self.arena_bytes / 2**20:.1f} MiB of values, "
            f"{self.weight_bytes / 2**20:.1f} MiB of packed weights"
        )
        lines += [self.in_parts] if self.in_parts else []
        return "\n".join(lines)


def report(network: Network, leaves: Sequence[Any], runs: int = 10) -> Report:
    """Run the plan for these flattened inputs and say what it did."""
    plan = network.plan(list(leaves))
    given = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    layers: list[Layer] = []
    for stage in plan.stages:
        outputs, times = given, []
        for _ in range(runs):
            outputs, seconds = stage.run_timed(given)
            times.append(seconds)
        best = [min(column) for column in zip(*times, strict=True)]
        for step, kernel, least in zip(stage.lowering.steps, stage.plan.kernels, best, strict=True):
            shape = (
                (step.shape[0] * stage.parts, *step.shape[1:]) if stage.parts > 1 else step.shape
            )
            flops, moved = step.flops * stage.parts, step.moved * stage.parts
            layers.append(
                Layer(step.node, step.op, kernel, tuple(shape), least, flops, moved, step.weights)
            )
        given = outputs
    arenas = sum(stage.arena_bytes for stage in plan.stages)
    in_parts = [
        (len(stage.lowering.steps), stage.parts) for stage in plan.stages if stage.parts > 1
    ]
    return Report(
        tuple(layers), arenas, network.weights.bytes, *(in_parts[0] if in_parts else (0, 1))
    )
