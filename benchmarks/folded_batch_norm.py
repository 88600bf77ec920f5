"""Errors of convolutions with a BatchNorm folded into their weights, channels six decades apart.

The maximum of the whole output would hide what happens to small channels, so each output channel is
held to its own maximum, and each output to its own sum |weight| |input|. Every kernel on every
instruction set of this machine, ten seeds a layer. Writes
benchmarks/results/folded_batch_norm.json (or --output).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from zoo import ops
from zoo.benchmark.machine import describe_machine
from zoo.files import replacing
from zoo.ops._introspection import conv2d_layout

LAYERS = {  # N, C, H, W, O, kernel, stride, padding, groups
    "64→64@28": (1, 64, 28, 28, 64, 3, 1, 1, 1),
    "256→256@56": (1, 256, 56, 56, 256, 3, 1, 1, 1),
    "512→512@7": (1, 512, 7, 7, 512, 3, 1, 1, 1),
    "256→256@14 with stride 2": (1, 256, 14, 14, 256, 3, 2, 1, 1),
    "2048→512@7 by 1x1": (1, 2048, 7, 7, 512, 1, 1, 0, 1),
    "a stem 3→64@112 by 7x7": (1, 3, 112, 112, 64, 7, 2, 3, 1),
    "depthwise 184@14": (1, 184, 14, 14, 184, 3, 1, 1, 184),
}
SEEDS = 10


def spread(channels: int) -> Tensor:
    """Scales from 1e-3 to 1e3 in random order."""
    return torch.logspace(-3, 3, channels)[torch.randperm(channels)]


def errors(shape: tuple[int, ...], precision: str, unequal_inputs: bool) -> tuple[float, float]:
    """Largest error of a channel's own maximum, and of an output's own sum of magnitudes.

    Args:
        shape: N, C, H, W, O, kernel, stride, padding, groups.
        precision: of ``conv2d_prepack``.
        unequal_inputs: whether input channels have such scales too, as output channels have.
    """
    n, c, h, w, o, kernel, stride, padding, groups = shape
    x = torch.randn(n, c, h, w).relu()
    if unequal_inputs:
        x = x * spread(c)[:, None, None]
    depth = c // groups * kernel**2
    weight, bias = fuse_conv_bn_weights(
        torch.randn(o, c // groups, kernel, kernel) * math.sqrt(2 / depth),
        None,
        bn_rm=torch.randn(o) * 0.1,
        bn_rv=spread(o) ** -2,
        bn_eps=0.0,
        bn_w=None,
        bn_b=None,
    )
    weight, bias = weight.detach(), bias.detach()
    packed = ops.conv2d_prepack(
        weight, groups, stride, padding, input_size=x.shape, precision=precision
    )
    window = (stride, padding, 1, groups)
    result = ops.conv2d_packed(x, packed, weight.shape, bias, *window, precision=precision)
    exact, magnitude = (
        F.conv2d(*(f(tensor.double()) for tensor in (x, weight, bias)), *window)
        for f in (torch.clone, torch.abs)
    )
    distance = (result - exact).abs()
    of_channel = distance.amax((0, 2, 3)) / exact.abs().amax((0, 2, 3))
    return float(of_channel.max()), float((distance / magnitude).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    default = Path(__file__).parent / "results" / "folded_batch_norm.json"
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()
    rows = []
    for capability in ops.cpu_capabilities():
        ops.set_cpu_capability(capability)
        for layer, shape in LAYERS.items():
            n, c, h, w, o, kernel, stride, padding, groups = shape
            size, weight_size = (n, c, h, w), (o, c // groups, kernel, kernel)
            window = (stride, padding, 1, groups)
            for precision in ("default", "exact"):
                name = conv2d_layout(size, weight_size, *window, torch.float32, precision)
                for unequal in (False, True):
                    print(f"{capability}, {layer}, {name}", file=sys.stderr)
                    found = []
                    for seed in range(SEEDS):
                        torch.manual_seed(seed)
                        found.append(errors(shape, precision, unequal))
                    of_channel, backward = (max(each) for each in zip(*found, strict=True))
                    facts = {"layer": layer, "implementation": name, "precision": precision}
                    facts |= {"cpu_capability": capability, "unequal_inputs": unequal}
                    rows.append({**facts, "of_channel": of_channel, "backward_error": backward})
    date = datetime.now(UTC).isoformat(timespec="seconds")
    header = {"date": date, "seeds": SEEDS, **describe_machine()}
    with replacing(options.output) as temporary:
        temporary.write_text(json.dumps({"header": header, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
