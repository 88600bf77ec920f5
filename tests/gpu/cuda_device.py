"""What the tests of a GPU share. Without one, or without kernels for it, who imports it is skipped.

Results are held to float64 on the processor. The bounds count roundings: ``unit`` is the distance
of 1 from the next number of a type, twice the largest relative error of a rounding to it.
"""

from __future__ import annotations

import math
import warnings
from functools import cache

import op_samples
import pytest
import torch
from op_samples import Sample
from torch import Tensor

from zoo import ops


def _missing() -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of drivers that do not fit
        if not torch.cuda.is_available():
            return "no CUDA device"
    built = ops.build_info().get("cuda")
    return None if built else "zoo is built without CUDA kernels: ZOO_CUDA=1 make install"


if reason := _missing():
    pytest.skip(reason, allow_module_level=True)

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
"""Those that have kernels."""

DECLINED = {
    "conv2d_pool-global-avg",  # its window has more pixels than a tile
    "max_pool2d-indices",
    "max_pool2d-indices-cl",
}
"""The samples that no kernel takes."""

TAKEN = [name for name in op_samples.names() if name not in DECLINED]


@cache
def _samples(dtype: torch.dtype) -> dict[str, Sample]:
    return {str(sample): sample for sample in op_samples.samples("cuda", dtype)}


def on_device(name: str, dtype: torch.dtype, channels_last: bool = False) -> Sample:
    """The sample of that name on the GPU: as it is, or all maps and weights in channels_last."""
    sample = _samples(dtype)[name]

    def change(x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    return sample.map(change) if channels_last else sample


def exact(sample: Sample) -> Sample:
    """The same call in float64 on the processor."""
    return sample.map(lambda x: x.detach().cpu().double())


def bound(sample: Sample, result: Tensor, own: bool) -> Tensor | float:
    """How far a result may be from the exact one, which is ``result``, element by element.

    A kernel of zoo's own sums in float32 and rounds once, when it stores. n terms of absolute sum M
    are off by (4 sqrt(n) + 16) units of float32 of M where roundings are independent (Higham,
    Accuracy and Stability of Numerical Algorithms, section 2.8); the matrix units may cut digits
    off instead of rounding, always in one direction: 2 n + 16. An activation multiplies that by its
    largest slope, 1.5 at most, and adds 16 units.

    PyTorch's ops round after each step, of which there are four at most, and cuDNN may run
    Winograd's method or Fourier's, which are held to 1e-5 of the largest output in float32, and to
    four units in the half types.
    """
    if sample.op == "max_pool2d":
        return 0.0
    dtype = sample.args[0].dtype
    unit, single = torch.finfo(dtype).eps, torch.finfo(torch.float32).eps
    stored = unit * result.abs() + torch.finfo(dtype).smallest_normal * unit
    magnitude = exact(sample).map(torch.abs)
    if sample.op in ("avg_pool2d", "adaptive_avg_pool2d"):
        summed = single if own else max(single, unit)
        return (magnitude.expected() + 1) * 16 * summed + stored
    terms = sample.args[1][0].numel()
    activation = magnitude.kwargs.pop("activation", "none")
    slope = 1.0 if activation in ("none", "relu", "relu6", "leaky_relu") else 1.5
    if sample.op == "conv2d_pool":
        # The largest error in a window bounds the error of its maximum and of its mean.
        magnitude.kwargs["pool"] = "max"
    total = magnitude.expected()
    sums = 4 * math.sqrt(terms) if dtype == torch.float32 else 2 * terms
    allowed: Tensor = (total * slope * (sums + 16) + 16) * single + stored
    if own:
        return allowed
    other = 1e-5 if dtype == torch.float32 else 4 * unit
    largest = result.abs().max() if result.numel() else 0.0
    return allowed + 4 * unit * slope * total + other * largest


def check(sample: Sample, own: bool) -> None:
    """Run the sample and hold the result to the exact one, in value, dtype, shape and place."""
    output, expected = sample.run(), exact(sample).expected()
    if isinstance(output, tuple):
        assert torch.equal(output[1].cpu(), expected[1])
        output, expected = output[0], expected[0]
    assert output.device == sample.args[0].device
    assert output.dtype == sample.args[0].dtype
    assert output.shape == expected.shape
    error = (output.cpu().double() - expected).abs()
    allowed = bound(sample, expected, own)
    assert bool((error <= allowed).all()), f"{sample}: off by {error.max().item():.3g}"
