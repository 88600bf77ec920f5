"""oneDNN's convolutions with packed weights and fused activations, as PyTorch's own compiler uses
them: a rival, and a choice where it is faster."""

from __future__ import annotations

import torch
from torch import Tensor

# zoo's activation -> (oneDNN's attribute, its scalars, its algorithm)
ACTIVATIONS: dict[str, tuple[str, list[float], str]] = {
    "none": ("none", [], ""),
    "relu": ("relu", [], ""),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
    "sigmoid": ("sigmoid", [], ""),
    "tanh": ("tanh", [], ""),
    "silu": ("swish", [], ""),
    "gelu": ("gelu", [], "none"),
    "hardswish": ("hardswish", [], ""),
    "hardsigmoid": ("hardsigmoid", [], ""),
    "leaky_relu": ("leaky_relu", [0.01], ""),
}


def available() -> bool:
    """Whether this PyTorch has oneDNN."""
    return bool(torch._C._has_mkldnn)


def pack(
    weight: Tensor,
    padding: list[int],
    stride: list[int],
    dilation: list[int],
    groups: int,
    input_size: list[int],
) -> Tensor:
    """The weight (O, C / groups, KH, KW) as oneDNN wants it for such inputs: an opaque tensor."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        weight, padding, stride, dilation, groups, input_size
    )
    return packed
