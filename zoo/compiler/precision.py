"""Which layers a network can compute by Winograd's method without leaving the tolerance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import fx

from zoo.ops import Precision

_CONVOLUTIONS = (torch.ops.zoo.conv2d.default, torch.ops.zoo.conv2d_pool.default)


def set_precision(graph_module: fx.GraphModule, layers: Mapping[str, Precision]) -> None:
    """Set the precision of the convolutions of these names; others keep theirs."""
    for node in graph_module.graph.nodes:
        if node.target in _CONVOLUTIONS and node.name in layers:
            node.update_kwarg("precision", layers[node.name])
    graph_module.recompile()


def inexact_layers(
    layers: Collection[str], error: Callable[[Collection[str]], float], tolerance: float
) -> dict[str, float] | None:
    """The layers that have to do without Winograd's method, with what each costs the output.

    Each layer is tried alone. Its cost is what it adds to the error that is there without any.
    Those whose costs, the least first, add up to half of what the tolerance leaves may keep it.

    Args:
        layers: those that use it.
        error: of the network's output where these layers do without it.
        tolerance: of that error.

    Returns:
        None where the error is too large without the method too.
    """
    least = error(layers)
    if least > tolerance:
        return None
    cost = {
        layer: max(0.0, error([each for each in layers if each != layer]) - least)
        for layer in layers
    }
    total, found = 0.0, {}
    for layer in sorted(cost, key=lambda each: cost[each]):
        total += cost[layer]
        if total > (tolerance - least) / 2:
            found[layer] = cost[layer]
    # Together errors may be larger than their sum.
    return found if error(found) <= tolerance else cost
