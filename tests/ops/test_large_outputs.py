"""Outputs of 16 MiB and more, which are written around the caches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo import ops

KERNELS = {  # input and weight, just large enough
    "direct": ((6, 8, 105, 105), (64, 8, 1, 1)),
    "gemm": ((6, 64, 52, 52), (264, 64, 1, 1)),  # the last panel is not whole
    "gemm-unaligned": ((6, 64, 52, 52), (268, 64, 1, 1)),  # nor are pixels aligned
    "direct-groups": ((6, 16, 104, 104), (80, 8, 1, 1), 2),  # a group begins within a line
    "gemm-groups": ((6, 160, 52, 52), (272, 80, 3, 3), 2),
    "winograd4": ((6, 16, 105, 107), (64, 16, 3, 3)),  # nor are the last tiles whole
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_values(name: str, residual: bool, capability: str) -> None:
    input_size, weight_size, *more_groups = KERNELS[name]
    generator = torch.Generator().manual_seed(3)
    x, w = (torch.randn(size, generator=generator) for size in (input_size, weight_size))
    x = x.contiguous(memory_format=torch.channels_last)
    padding, groups = weight_size[2] // 2, more_groups[0] if more_groups else 1
    plain = F.conv2d(x.double(), w.double(), padding=padding, groups=groups)
    assert plain.numel() * 4 >= 16 << 20
    more = torch.randn_like(plain, dtype=torch.float32) if residual else None
    expected = plain.relu() if more is None else (plain + more).relu()
    packed = ops.conv2d_prepack(w, groups, 1, padding, input_size=x.shape)
    result = ops.conv2d_packed(
        x, packed, w.shape, padding=padding, groups=groups, activation="relu", residual=more
    )
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert (result.double() - expected).abs().max() <= 4e-6 * plain.abs().max()
