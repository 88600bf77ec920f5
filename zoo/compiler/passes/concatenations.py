"""What lowering wants to know of a concatenation before its parts are computed."""

from __future__ import annotations

import torch
from torch import fx

from zoo.compiler.graph import arguments, calls, dim, is_float32, shape

_aten = torch.ops.aten


def note_channels(graph_module: fx.GraphModule) -> int:
    """Where maps are joined along their channels, ``meta["channels"]`` says how many each has.

    So whoever computes a part knows where in the whole it belongs. Open numbers are not noted.
    """
    count = 0
    for node in calls(graph_module, _aten.cat.default):
        given = arguments(node)
        parts = given["tensors"]
        if given["dim"] not in (1, -3):
            continue
        if not all(is_float32(part) and dim(part) == 4 for part in parts):
            continue
        channels = [sizes[1] for part in parts if (sizes := shape(part)) is not None]
        if all(isinstance(number, int) for number in channels):
            node.meta["channels"] = channels
            count += 1
    return count
