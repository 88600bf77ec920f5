"""Gradients on a GPU: through PyTorch's backward, after forwards by zoo's kernels."""

from __future__ import annotations

import pytest
import torch
from cuda_device import TAKEN, exact, on_device
from op_samples import Sample
from torch import Tensor

SMOOTH = [
    "conv2d-bias",
    "conv2d-unequal",
    "conv2d-groups",
    "conv2d-depthwise",
    "conv2d-sigmoid",
    "conv2d-tanh",
    "conv2d-gelu",
    "conv2d-channels-last",
    "conv2d_pool-avg3s2",
    "max_pool2d-3s2p1",
    "avg_pool2d-ceil",
    "adaptive_avg_pool2d-uneven",
]


def leaves(sample: Sample) -> Sample:
    return sample.map(lambda x: x.detach().clone().requires_grad_())


@pytest.mark.parametrize("name", SMOOTH)
def test_gradcheck(name: str) -> None:
    sample = leaves(on_device(name, torch.float64))

    def run(*tensors: Tensor) -> Tensor:
        given = iter(tensors)
        output: Tensor = sample.map(lambda x: next(given)).run()
        return output

    # PyTorch's backward of pools adds up in any order.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        torch.autograd.gradcheck(run, sample.tensors, fast_mode=True, nondet_tol=1e-10)


def gradients(sample: Sample) -> list[Tensor]:
    """Of each tensor of the call, from the same random gradient of its output."""
    output = sample.run()
    if isinstance(output, tuple):
        output = output[0]
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return list(torch.autograd.grad(output, sample.tensors, random.to(output)))


@pytest.mark.parametrize(
    "name", [name for name in TAKEN if "empty" not in name and "huge" not in name]
)
def test_gradients_are_those_of_float64(name: str) -> None:
    for channels_last in (False, True):
        sample = leaves(on_device(name, torch.float32, channels_last))
        if sample.op.startswith("conv2d"):
            sample.kwargs["precision"] = "exact"  # the forward is a kernel of zoo's own
        ours = gradients(sample)
        theirs = gradients(leaves(exact(sample)))
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.is_cuda
            assert mine.dtype == torch.float32
            scale = other.abs().max().item()
            torch.testing.assert_close(mine.cpu().double(), other, rtol=1e-4, atol=1e-4 * scale)
