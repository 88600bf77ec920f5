"""The ops as compositions of PyTorch's own: what each one means, and what its tests hold it to.

The same compositions, in C++ (csrc/ops/reference.cpp), run every case that no kernel takes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.ops._conv2d import Activation, Precision
from zoo.ops._conv2d_pool import Pool
from zoo.ops._shapes import Ints

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "leaky_relu": F.leaky_relu,
}


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: Activation = "none",
    residual: Tensor | None = None,
    precision: Precision = "default",
) -> Tensor:
    """What :func:`zoo.ops.conv2d` computes, whatever the precision."""
    output = F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if residual is not None:
        output = output + residual
    return ACTIVATIONS[activation](output)


def conv2d_pool(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: Activation = "none",
    pool: Pool = "max",
    pool_kernel: Ints = 2,
    pool_stride: Ints | None = None,
    pool_padding: Ints = 0,
    precision: Precision = "default",
) -> Tensor:
    """What :func:`zoo.ops.conv2d_pool` computes, whatever the precision."""
    output = conv2d(input, weight, bias, stride, padding, dilation, groups, activation=activation)
    pooling = F.max_pool2d if pool == "max" else F.avg_pool2d
    pooled: Tensor = pooling(output, pool_kernel, pool_stride, pool_padding)
    return pooled


def conv2d_batch_norm(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    bn_weight: Tensor | None = None,
    bn_bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: Activation = "none",
    residual: Tensor | None = None,
    precision: Precision = "default",
) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`zoo.ops.conv2d_batch_norm` computes, whatever the precision."""
    output = F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    # With momentum 1 the running statistics become the batch's; only the variance is unbiased.
    dtype = torch.promote_types(output.dtype, torch.float32)
    like = bn_weight if bn_weight is not None else output.new_empty(0, dtype=dtype)
    mean, variance = like.new_zeros(2, output.shape[1]).detach().unbind()
    output = F.batch_norm(output, mean, variance, bn_weight, bn_bias, True, 1.0, eps)
    count = output.numel() // output.shape[1]
    if residual is not None:
        output = output + residual
    return ACTIVATIONS[activation](output), mean, variance * ((count - 1) / count)


max_pool2d = F.max_pool2d
avg_pool2d = F.avg_pool2d
adaptive_avg_pool2d = F.adaptive_avg_pool2d
