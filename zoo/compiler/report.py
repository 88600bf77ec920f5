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
    """

    name: str
    op: str
    kernel: str
    shape: tuple[int, ...]
    seconds: float
    flops: int


@dataclass(frozen=True)
class Report:
    """A plan's steps in order, and its memory.

    Attributes:
        layers: the steps.
        arena_bytes: what the intermediate values take, workspaces included.
        weight_bytes: what the packed weights take.
    """

    layers: tuple[Layer, ...]
    arena_bytes: int
    weight_bytes: int

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
        return "\n".join(lines)


def report(network: Network, leaves: Sequence[Any], runs: int = 10) -> Report:
    """Run the plan for these flattened inputs and say what it did."""
    plan, lowering, _ = network.plan(list(leaves))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    times = [plan.run_timed(tensors)[1] for _ in range(runs)]
    best = [min(column) for column in zip(*times, strict=True)]
    layers = tuple(
        Layer(step.node, step.op, kernel, tuple(step.shape), nanoseconds / 1e9, step.flops)
        for step, kernel, nanoseconds in zip(lowering.steps, plan.kernels, best, strict=True)
    )
    return Report(layers, plan.arena_bytes, network.weights.bytes)
