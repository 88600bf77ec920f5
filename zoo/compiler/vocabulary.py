"""What a saved graph may call. Everything else in a file is refused before anything runs.

The ops compute new tensors (or views) from tensors and numbers, check their arguments, and touch
neither files nor devices. A name stands for all its overloads that change nothing.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

import zoo.ops  # noqa: F401  (registers torch.ops.zoo)

_ATEN = """
abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d add addbmm addcdiv addcmul addmm
alias all amax amin any arange argmax argmin argsort atan atan2 avg_pool1d avg_pool2d baddbmm
batch_norm bitwise_and bitwise_not bitwise_or bitwise_xor bmm broadcast_to bucketize cat ceil celu
channel_shuffle chunk clamp clamp_max clamp_min clone complex constant_pad_nd contiguous conv1d
conv2d conv3d conv_transpose1d conv_transpose2d convolution cos cosh cumprod cumsum detach diagonal
div dot dropout einsum elu embedding empty empty_like eq erf exp expand expand_as expm1 eye
feature_dropout fft_fft2 fft_ifft2 fft_irfft2 fft_rfft2 fill flatten flip floor floor_divide fmod
full full_like gather ge gelu glu grid_sampler group_norm gt hardshrink hardsigmoid hardswish
hardtanh im2col index index_put index_select instance_norm isfinite isinf isnan layer_norm le
leaky_relu lerp lift_fresh lift_fresh_copy linalg_norm linalg_vector_norm linear linspace log log10
log1p log2 log_sigmoid log_softmax logical_and logical_not logical_or logical_xor logsumexp lt
masked_fill matmul max max_pool1d max_pool2d max_pool2d_with_indices maximum mean meshgrid min
minimum mish mm movedim mT mul mv narrow native_group_norm native_layer_norm ne neg new_empty
new_full new_ones new_zeros norm one_hot ones ones_like pad permute pixel_shuffle pixel_unshuffle
pow prelu prod rand rand_like randn randn_like reciprocal reflection_pad2d relu relu6 remainder
repeat repeat_interleave replication_pad2d reshape reshape_as rms_norm roll round rsqrt rsub
scalar_tensor scaled_dot_product_attention scatter scatter_add select select_scatter selu sigmoid
sign silu sin sinh slice slice_scatter softmax softplus softshrink sort split split_with_sizes sqrt
square squeeze stack std std_mean sub sum swapaxes swapdims sym_numel sym_size sym_stride t tan tanh
threshold tile to topk transpose tril triu trunc type_as unbind unflatten unfold unsqueeze
unsqueeze_copy upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest2d var
var_mean view view_as view_as_complex view_as_real where zeros zeros_like
_adaptive_avg_pool2d _log_softmax _native_batch_norm_legit_no_training
_scaled_dot_product_flash_attention_for_cpu _softmax _to_copy _unsafe_view _upsample_bicubic2d_aa
_upsample_bilinear2d_aa
"""
_ZOO = "adaptive_avg_pool2d avg_pool2d conv2d conv2d_pool linear max_pool2d scale_shift"
_OPS = {"aten": frozenset(_ATEN.split()), "zoo": frozenset(_ZOO.split())}
_NAME = re.compile(r"(aten|zoo)::([A-Za-z_][A-Za-z0-9_]*)(?:\.([A-Za-z_][A-Za-z0-9_]*))?")

# Arithmetic on sizes, and the choice of one of several results.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        f"operator.{function.__name__}": function
        for function in (
            operator.add,
            operator.eq,
            operator.floordiv,
            operator.ge,
            operator.getitem,
            operator.gt,
            operator.le,
            operator.lt,
            operator.mod,
            operator.mul,
            operator.ne,
            operator.neg,
            operator.sub,
            operator.truediv,
        )
    },
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.trunc": math.trunc,
    "round": round,
    "torch.sym_float": torch.sym_float,
    "torch.sym_int": torch.sym_int,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
}
_NAMES = {function: name for name, function in _FUNCTIONS.items()}


def name_of(target: Any) -> str:
    """The name under which a graph's file calls it. Raises ValueError where it may not."""
    if not isinstance(target, OpOverload):
        name = _NAMES.get(target)
        if name is None:
            raise ValueError(f"{getattr(target, '__name__', target)} is not known")
        return name
    schema = target._schema
    name = f"{schema.name}.{schema.overload_name}".removesuffix(".")
    if find(name) is not target:
        raise ValueError(f"{name} is not known")
    return name


def find(name: str) -> Callable[..., Any]:
    """The op or function of that name. Raises ValueError where it may not be called."""
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    match = _NAME.fullmatch(name)
    if match is not None:
        library, short, overload = match.groups()
        if short in _OPS[library]:
            packet = getattr(getattr(torch.ops, library), short, None)
            found = getattr(packet, overload or "default", None)
            if isinstance(found, OpOverload) and not found._schema.is_mutable:
                return found
    raise ValueError(f"{name!r} is no op that a saved network may call")
