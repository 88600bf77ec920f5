"""What was built, what this machine runs, and why."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypedDict, get_args

import torch

from zoo.errors import UsageError
from zoo.ops import _shapes
from zoo.ops._conv2d import Activation, Precision
from zoo.ops._library import extension
from zoo.ops._shapes import Ints
from zoo.ops._types import check_types, shown

ACTIVATIONS: tuple[str, ...] = get_args(Activation)
"""The activations that the convolutions can end in."""


class Choice(TypedDict):
    """One line of a selection list."""

    implementation: str
    chosen: bool
    reason: str | None
    """Why the case is declined; None where it is accepted."""
    work: float | None
    """What it is expected to take, in the time of one multiply-add; None for aten and for
    what cannot run the case."""


def build_info() -> dict[str, Any]:
    """How ``zoo._C`` was built: compiler, flags, C++ standard, instruction sets, torch, CUDA.

    "cuda" is the CUDA release, or None where it was built without; "cuda_archs" the architectures.
    """
    info: dict[str, Any] = extension.build_info()
    return info


def cpu_capability() -> str:
    """The instruction set in use: "scalar", "avx2" or "avx512".

    The best one that the machine has, unless ``ZOO_CPU_CAPABILITY`` or
    :func:`set_cpu_capability` says otherwise.

    Raises:
        UsageError: ``ZOO_CPU_CAPABILITY`` names none, or one that this machine lacks.
    """
    try:
        return str(extension.cpu_capability())
    except ValueError as error:
        raise UsageError(str(error)) from None


def set_cpu_capability(name: str) -> None:
    """Use the kernels of instruction set ``name`` in this process from now on.

    Raises:
        UsageError: there is no such set, or this machine lacks it.
        TypeError: the name is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"set_cpu_capability: name must be scalar, avx2 or avx512, not {shown(name)}"
        )
    try:
        extension.set_cpu_capability(name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def cpu_capabilities() -> list[str]:
    """The instruction sets that were built and that this machine has, least first."""
    return list(extension.cpu_capabilities())


def kernels() -> list[dict[str, str]]:
    """The kernels that this machine can run: op, kernel, isa and dtype of each."""
    return list(extension.kernels())


def peak_fma(steps: int, threads: int) -> int:
    """Run float32 multiply-adds that wait for nothing, on so many of PyTorch's threads.

    Returns:
        The floating-point operations done. Time the call to know what the machine can do.
    """
    return int(extension.peak_fma(steps, threads))


def peak_read(data: torch.Tensor, passes: int, threads: int) -> float:
    """Read a contiguous float32 tensor: so many of PyTorch's threads, ``passes`` times a part each.

    Returns:
        The sum of all that was read. Time the call to know how quickly.
    """
    return float(extension.peak_read(data.numpy(), passes, threads))


@cache
def has_conv2d_kernels() -> bool:
    """Whether convolutions run kernels of zoo's own on this processor, so that packing pays."""
    choices = explain_conv2d((1, 2, 1, 1), (1, 2, 1, 1))
    return not choices[-1]["chosen"]


def conv2d_layout(
    input_size: Sequence[int],
    weight_size: Sequence[int],
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    dtype: torch.dtype,
    precision: str,
) -> str:
    """The layout that conv2d_prepack chooses: the name of the implementation that reads it.

    Raises:
        RuntimeError: shapes that do not fit.
        ValueError: an unknown precision.
    """
    op = "conv2d_prepack"
    four = len(input_size) == 4
    _shapes.check(four, op, f"input_size must be four numbers (N, C, H, W), not {list(input_size)}")
    layout: str = extension.conv2d_layout(
        [int(extent) for extent in input_size],
        [int(extent) for extent in weight_size],
        _shapes.pair(op, "stride", stride, 1),
        _shapes.pair(op, "padding", padding, 0),
        _shapes.pair(op, "dilation", dilation, 1),
        groups,
        str(dtype).removeprefix("torch."),
        precision,
    )
    return layout


def explain_conv2d(
    input_size: Sequence[int],
    weight_size: Sequence[int],
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    dtype: torch.dtype = torch.float32,
    *,
    activation: Activation = "none",
    precision: Precision = "default",
    packed: bool = False,
    channels_last: bool = False,
) -> list[Choice]:
    """Which implementation a convolution gets on the CPU, and why not the ones before it.

    Args:
        input_size: (N, C, H, W).
        weight_size: (O, C / groups, kernel_h, kernel_w).
        stride: as in :func:`zoo.ops.conv2d`, like the rest.
        padding: see there.
        dilation: see there.
        groups: see there.
        dtype: of the tensors.
        activation: see there.
        precision: see there.
        packed: whether the weight is to be packed beforehand: what :func:`conv2d_prepack` chooses
            for such an input, and not what :func:`conv2d` runs.
        channels_last: whether the input is in channels_last.

    Raises:
        UsageError: shapes or types that do not fit, an unknown activation or precision.
    """
    try:
        check_types(explain_conv2d, locals())
    except TypeError as error:
        raise UsageError(str(error)) from None
    for what, size in (("input_size", input_size), ("weight_size", weight_size)):
        if len(size) != 4 or any(extent < 0 for extent in size):
            raise UsageError(f"{what} must be four numbers of at least 0, not {list(size)}")
    try:
        rows = extension.explain_conv2d(
            list(input_size),
            list(weight_size),
            _shapes.pair("conv2d", "stride", stride, 1),
            _shapes.pair("conv2d", "padding", padding, 0),
            _shapes.pair("conv2d", "dilation", dilation, 1),
            groups,
            str(dtype).removeprefix("torch."),
            activation,
            precision,
            bool(packed),
            bool(channels_last),
        )
    except (RuntimeError, ValueError) as error:
        raise UsageError(str(error).splitlines()[0]) from None
    chosen = next(name for name, reason, _ in rows if reason is None)
    return [
        Choice(implementation=name, chosen=name == chosen, reason=reason, work=work or None)
        for name, reason, work in rows
    ]
