"""Numbers too small for a float's usual precision: kept as PyTorch keeps them, not taken for 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import op_samples
import pytest
import torch
from op_samples import Sample

from zoo import ops
from zoo.ops import reference

STEP = 2.0**-149  # between neighbouring denormal numbers

# What is multiplied, by its size: denormal inputs, denormal weights, denormal products.
SCALES = {"input": (1e-39, 1.0), "weight": (1.0, 1e-39), "product": (1e-20, 3e-20)}

# The kernel, and the smallest case of it that has edges.
KERNELS = {
    "direct": ((2, 3, 9, 10), (17, 3, 3, 3)),
    "direct-groups": ((1, 8, 9, 10), (10, 4, 3, 3), 2),
    "gemm": ((1, 40, 4, 7), (34, 40, 3, 3)),
    "depthwise": ((2, 20, 9, 10), (20, 1, 3, 3), 20),
    "winograd2": ((2, 16, 15, 10), (17, 16, 3, 3)),
    "winograd4": ((1, 16, 33, 34), (17, 16, 3, 3)),
}


def make(name: str, scale: str) -> Sample:
    x, w, *groups = KERNELS[name]
    precision = "default" if name.startswith("winograd") else "exact"
    left, right = SCALES[scale]
    args = (torch.randn(x) * left, torch.randn(w) * right, None, 1, 1, 1, *groups)
    sample = Sample(name, "conv2d", args, {"precision": precision})
    assert op_samples.implementation(sample) == name.removesuffix("-groups")
    return sample


def bound(sample: Sample) -> float:
    """The usual error of a sum, and a step of the denormal numbers at each of its roundings.

    Winograd's transformations multiply a rounding of what they read by the other factor, and each
    output is a sum over 36 points with coefficients up to 8.
    """
    x, w = (tensor.double().abs() for tensor in sample.args[:2])
    terms = w[0].numel()
    largest = reference.conv2d(x, w, *sample.args[2:]).max().item()
    if sample.name.startswith("winograd"):
        steps = w.shape[1] * 36 * 8 * max(1.0, w.max().item(), x.max().item())
        return 4e-6 * largest + steps * STEP
    return (4 * math.sqrt(terms) + 16) * torch.finfo(torch.float32).eps * largest + terms * STEP


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", KERNELS)
def test_convolutions(name: str, scale: str, capability: str) -> None:
    sample = make(name, scale)
    exact, allowed = sample.map(torch.Tensor.double).expected(), bound(sample)
    assert exact.abs().max().item() > 1000 * allowed  # what is flushed to 0 would show
    x, w, *rest = sample.args
    packed = ops.conv2d_prepack(w, rest[4] if len(rest) > 4 else 1, 1, 1, input_size=x.shape)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = x.contiguous(memory_format=layout)
        for result in (
            ops.conv2d(x, w, *rest, **sample.kwargs),
            ops.conv2d_packed(x, packed, w.shape, *rest),
        ):
            assert (result.double() - exact).abs().max().item() <= allowed
        pooled = ops.conv2d_pool(x, w, *rest, activation="relu", **sample.kwargs)
        expected = torch.nn.functional.max_pool2d(exact.relu(), 2)
        assert (pooled.double() - expected).abs().max().item() <= allowed


POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max": lambda x: ops.max_pool2d(x, 3, 2, 1),
    "avg": lambda x: ops.avg_pool2d(x, 3, 2, 1),
    "uneven": lambda x: ops.adaptive_avg_pool2d(x, (4, 7)),
    "global": lambda x: ops.adaptive_avg_pool2d(x, 1),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str, capability: str) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = (torch.randn(2, 19, 9, 11) * 1e-39).contiguous(memory_format=layout)
        result, exact = POOLS[name](x).double(), POOLS[name](x.double())
        steps = 0 if name == "max" else x[0, 0].numel()
        assert (result - exact).abs().max().item() <= steps * STEP


def test_activations(capability: str) -> None:
    x = torch.randn(1, 3, 20, 20) * 1e-39
    for activation in ops.ACTIVATIONS:
        exact = reference.ACTIVATIONS[activation](x.double())
        for result in (
            ops.conv2d(x, torch.ones(3, 1, 1, 1), groups=3, activation=activation),
            ops.scale_shift(x, activation=activation),
        ):
            error = (result.double() - exact).abs()
            assert bool((error <= 4e-7 * exact.abs() + 4 * STEP).all()), activation


def test_linear(capability: str) -> None:
    x, w = torch.randn(2, 70) * 1e-39, torch.randn(40, 70)
    exact = x.double() @ w.double().T
    packed = ops.linear_packed(x, ops.linear_prepack(w), w.shape)
    for result in (packed, ops.linear(x, w)):
        assert (result.double() - exact).abs().max().item() <= 1e-5 * exact.abs().max().item()


def test_flushing_reaches_the_threads_that_start_later() -> None:
    """``torch.set_flush_denormal`` is the calling thread's, and its thread pool takes it over."""
    x, w = torch.full((4, 16, 64, 64), 1e-40), torch.ones(16, 16, 1, 1)

    def flushed() -> torch.Tensor:
        torch.set_flush_denormal(True)
        torch.set_num_threads(2)
        return ops.conv2d(x, w)

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as new:
            result = new.submit(flushed).result()
    finally:
        torch.set_num_threads(before)
    assert not bool(result.any())
    assert bool(ops.conv2d(x, w).all())  # not in this thread
