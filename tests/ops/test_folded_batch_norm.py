"""Errors with the weights that folding a BatchNorm gives, where channels are six decades apart.

The maximum of the whole output would hide what happens to small channels, so each output channel
is held to its own maximum, and each output to its own sum |weight| |input|.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from zoo import ops

SHAPES = {  # N, C, H, W, O, kernel, stride, padding, groups
    "winograd4": (1, 64, 28, 28, 64, 3, 1, 1, 1),
    "winograd2": (1, 512, 7, 7, 512, 3, 1, 1, 1),
    "gemm": (1, 128, 14, 14, 80, 3, 2, 1, 1),
    "direct": (1, 3, 56, 56, 64, 7, 2, 3, 1),
    "depthwise": (1, 184, 14, 14, 184, 3, 1, 1, 184),
}
"""By the implementation that a packed weight gets."""


def spread(channels: int) -> Tensor:
    """Scales from 1e-3 to 1e3 in random order."""
    return torch.logspace(-3, 3, channels)[torch.randperm(channels)]


def errors(shape: tuple[int, ...], precision: str, unequal_inputs: bool) -> tuple[float, float]:
    """Largest error of a channel's own maximum, and of an output's own sum of magnitudes."""
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


@pytest.mark.parametrize("unequal_inputs", [False, True])
@pytest.mark.parametrize("precision", ["default", "exact"])
@pytest.mark.parametrize("name", SHAPES)
def test_unequal_scales_cost_no_channel_its_digits(
    name: str, precision: str, unequal_inputs: bool, capability: str
) -> None:
    of_channel, backward = errors(SHAPES[name], precision, unequal_inputs)
    winograd = name.startswith("winograd") and precision == "default"
    assert of_channel <= (4e-6 if winograd else 1.5e-6)
    assert backward <= (1e-5 if winograd else 1.5e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_get_the_kernels_that_they_are_for(name: str) -> None:
    n, c, h, w, o, kernel, *window, groups = SHAPES[name]
    rows = ops.explain_conv2d(
        (n, c, h, w), (o, c // groups, kernel, kernel), *window, 1, groups, packed=True
    )
    assert [row["implementation"] for row in rows if row["chosen"]] == [name]
