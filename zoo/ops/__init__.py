"""Fused convolution and pooling, as PyTorch operators with kernels of zoo's own.

Every op works on any device and dtype, in eager mode, under autograd, autocast, ``torch.compile``
and ``torch.export``. float32 and float64 on the CPU run kernels that are chosen for the processor
at run time; on CUDA, where zoo was built for it, kernels run what they are expected to be quicker
at. Whatever they decline runs in :mod:`zoo.ops.reference`'s composition of aten ops.
docs/ops.md says more.
"""

from zoo.ops import _training as _training
from zoo.ops._adaptive_avg_pool2d import adaptive_avg_pool2d
from zoo.ops._avg_pool2d import avg_pool2d
from zoo.ops._conv2d import Activation, Precision, conv2d
from zoo.ops._conv2d_batch_norm import conv2d_batch_norm
from zoo.ops._conv2d_packed import conv2d_packed, conv2d_pool_packed, conv2d_prepack
from zoo.ops._conv2d_pool import Pool, conv2d_pool
from zoo.ops._cuda import cuda_kernels, explain_cuda_conv2d
from zoo.ops._introspection import (
    ACTIVATIONS,
    build_info,
    cpu_capabilities,
    cpu_capability,
    explain_conv2d,
    kernels,
    set_cpu_capability,
)
from zoo.ops._linear import linear, linear_packed, linear_prepack
from zoo.ops._max_pool2d import max_pool2d
from zoo.ops._scale_shift import scale_shift

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Pool",
    "Precision",
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "build_info",
    "conv2d",
    "conv2d_batch_norm",
    "conv2d_packed",
    "conv2d_pool",
    "conv2d_pool_packed",
    "conv2d_prepack",
    "cpu_capabilities",
    "cpu_capability",
    "cuda_kernels",
    "explain_conv2d",
    "explain_cuda_conv2d",
    "kernels",
    "linear",
    "linear_packed",
    "linear_prepack",
    "max_pool2d",
    "scale_shift",
    "set_cpu_capability",
]
