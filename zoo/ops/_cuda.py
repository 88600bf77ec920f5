"""What was built for CUDA, and what a convolution gets there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.errors import UsageError
from zoo.ops import _shapes
from zoo.ops._conv2d import Activation, Precision
from zoo.ops._introspection import Choice
from zoo.ops._library import extension
from zoo.ops._shapes import Ints
from zoo.ops._types import check_types


def cuda_kernels() -> list[dict[str, str]]:
    """The CUDA kernels that were built, whether or not there is a device: op, kernel, isa ("cuda")
    and dtype of each. None where zoo was built without CUDA."""
    return list(extension.cuda_kernels())


def explain_cuda_conv2d(
    input_size: Sequence[int],
    weight_size: Sequence[int],
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    dtype: torch.dtype = torch.float32,
    *,
    bias: bool = True,
    activation: Activation = "none",
    residual: bool = False,
    precision: Precision = "default",
    channels_last: bool = False,
) -> list[Choice]:
    """Which implementation :func:`zoo.ops.conv2d` gets on CUDA, and why not the ones before it.

    The answer is that for the current device or, where there is none, for an A100; it needs no
    CUDA. ``work`` is None: nothing was measured.

    Args:
        input_size: (N, C, H, W).
        weight_size: (O, C / groups, kernel_h, kernel_w).
        stride: as in :func:`zoo.ops.conv2d`, like the rest.
        padding: see there.
        dilation: see there.
        groups: see there.
        dtype: of the tensors.
        bias: whether there is one: what PyTorch would do in a pass of its own counts.
        activation: see there.
        residual: whether there is one.
        precision: see there.
        channels_last: whether the input is in channels_last.

    Raises:
        UsageError: shapes or types that do not fit, an unknown activation or precision.
    """
    try:
        check_types(explain_cuda_conv2d, locals())
    except TypeError as error:
        raise UsageError(str(error)) from None
    for what, size in (("input_size", input_size), ("weight_size", weight_size)):
        if len(size) != 4 or any(extent < 0 for extent in size):
            raise UsageError(f"{what} must be four numbers of at least 0, not {list(size)}")
    processors, capability = 108, 80
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties()
        processors, capability = device.multi_processor_count, 10 * device.major + device.minor
    try:
        rows = extension.explain_cuda_conv2d(
            list(input_size),
            list(weight_size),
            _shapes.pair("conv2d", "stride", stride, 1),
            _shapes.pair("conv2d", "padding", padding, 0),
            _shapes.pair("conv2d", "dilation", dilation, 1),
            groups,
            str(dtype).removeprefix("torch."),
            activation,
            bool(bias),
            bool(residual),
            precision,
            bool(channels_last),
            processors,
            capability,
        )
    except (RuntimeError, ValueError) as error:
        raise UsageError(str(error).splitlines()[0]) from None
    chosen = next(name for name, reason in rows if reason is None)
    return [
        Choice(implementation=name, chosen=name == chosen, reason=reason, work=None)
        for name, reason in rows
    ]
