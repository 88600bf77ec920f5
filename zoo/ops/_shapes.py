"""Output shapes and their checks, for the fake kernels: csrc/ops/arguments.cpp, in Python.

Messages are the same as there; tests/ops/test_errors.py holds both to it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from zoo.ops._types import shown

Ints = int | list[int] | tuple[int, ...]

_NUMBERS = (int, torch.SymInt)  # a union would be built anew, half a microsecond a time


class Window(NamedTuple):
    """Kernel size, stride, padding and dilation, each as (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def check(condition: bool, op: str, message: str) -> None:
    """Raise the RuntimeError that the real kernel would."""
    if not condition:
        raise RuntimeError(f"zoo::{op}: {message}")


def listed(what: str, values: Ints) -> Sequence[int]:
    """One number as two, which is what a dispatcher op takes; a sequence as it is."""
    if isinstance(values, _NUMBERS):
        return (values, values)
    if isinstance(values, Sequence) and all(map(_whole, values)):
        return values
    if hasattr(values, "__index__"):  # a number of numpy's
        return (operator.index(values),) * 2
    raise TypeError(f"{what} must be a whole number or a pair of them, not {shown(values)}")


def _whole(value: object) -> bool:
    """Whether it is an integer of any kind: numpy's, too."""
    return isinstance(value, _NUMBERS) or hasattr(value, "__index__")


_NAMES = {"activation": "none", "precision": "default", "pool": "max"}


def named(what: str, value: str) -> str:
    """The value, if it is a string; whether anything has that name is the op's to say."""
    if isinstance(value, str):
        return value
    raise TypeError(f'{what} must be a name such as "{_NAMES[what]}", not {shown(value)}')


def pair(op: str, what: str, values: Ints, least: int) -> tuple[int, int]:
    """One number or two, as two, each at least ``least``."""
    both = list(listed(what, values))
    check(len(both) in (1, 2), op, f"{what} must be one number or two, not {len(both)}")
    check(
        both[0] >= least and both[-1] >= least, op, f"{what} must be at least {least}, not {both}"
    )
    return both[0], both[-1]


def stride_or_kernel(op: str, what: str, stride: Ints, kernel: tuple[int, int]) -> tuple[int, int]:
    """A pool's stride; an empty list means its kernel."""
    if isinstance(stride, Sequence) and len(stride) == 0:
        return kernel
    return pair(op, what, stride, 1)


def output_sizes(
    op: str, height: int, width: int, window: Window, ceil_mode: bool = False
) -> tuple[int, int]:
    """How often the window fits the padded map; it must fit once."""

    def size(axis: int, extent: int) -> int:
        kernel, stride, padding, dilation = (values[axis] for values in window)
        room = extent + 2 * padding - (dilation * (kernel - 1) + 1)
        if ceil_mode:
            out = (room + stride - 1) // stride + 1
            if (out - 1) * stride >= extent + padding:
                out -= 1
            return out
        return room // stride + 1

    out = size(0, height), size(1, width)
    check(
        out[0] > 0 and out[1] > 0,
        op,
        f"the output would be empty: a window of {window.kernel[0]}x{window.kernel[1]} with "
        f"dilation {window.dilation[0]}x{window.dilation[1]} does not fit a map of "
        f"{height}x{width} with padding {window.padding[0]}x{window.padding[1]}",
    )
    return out


def check_input(op: str, input: Tensor) -> None:
    """(N, C, H, W), of which only N may be 0."""
    check(
        input.dim() == 4,
        op,
        f"input must have 4 dimensions (N, C, H, W), not {input.dim()}; "
        f"its shape is {list(input.shape)}",
    )
    check(
        input.shape[1] > 0 and input.shape[2] > 0 and input.shape[3] > 0,
        op,
        f"only the batch may be empty, but input's shape is {list(input.shape)}",
    )


def check_same(op: str, what: str, tensor: Tensor, input: Tensor) -> None:
    """The dtype and device of input."""
    check(
        tensor.dtype == input.dtype,
        op,
        f"{what} is {_scalar_type(tensor)} but input is {_scalar_type(input)}; "
        "convert one with .to(dtype)",
    )
    check_device(op, what, tensor, input)


def check_device(op: str, what: str, tensor: Tensor, input: Tensor) -> None:
    """The device of input."""
    check(
        tensor.device == input.device,
        op,
        f"{what} is on {tensor.device} but input is on {input.device}; move one with .to(device)",
    )


def check_weight_size(op: str, size: Sequence[int], groups: int) -> None:
    """(O, C/groups, kernel_h, kernel_w), none of them 0, groups a divisor of O."""
    check(
        len(size) == 4,
        op,
        "weight must have 4 dimensions (O, C/groups, kernel_h, kernel_w), "
        f"not {len(size)}; its shape is {list(size)}",
    )
    check(
        all(extent > 0 for extent in size),
        op,
        f"weight must not be empty, but its shape is {list(size)}",
    )
    check(groups > 0, op, f"groups must be at least 1, not {groups}")
    check(
        size[0] % groups == 0,
        op,
        f"groups={groups} does not divide weight's {size[0]} output channels",
    )


def conv2d_sizes(
    op: str,
    input: Tensor,
    size: Sequence[int],
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    residual: Tensor | None = None,
) -> list[int]:
    """The shape of a convolution's output, all arguments checked."""
    check_input(op, input)
    check_weight_size(op, size, groups)
    channels = input.shape[1]
    check(
        channels % groups == 0, op, f"groups={groups} does not divide input's {channels} channels"
    )
    check(
        channels // groups == size[1],
        op,
        f"a weight of shape {list(size)} with groups={groups} takes {size[1] * groups} channels, "
        f"but input has {channels}",
    )
    window = Window(
        (size[2], size[3]),
        pair(op, "stride", stride, 1),
        pair(op, "padding", padding, 0),
        pair(op, "dilation", dilation, 1),
    )
    height, width = output_sizes(op, input.shape[2], input.shape[3], window)
    out = [input.shape[0], size[0], height, width]
    if bias is not None:
        check(
            bias.dim() == 1 and bias.shape[0] == size[0],
            op,
            f"bias must have shape [{size[0]}], not {list(bias.shape)}",
        )
        check_same(op, "bias", bias, input)
    if residual is not None:
        check(
            list(residual.shape) == out,
            op,
            f"residual must have the output's shape {out}, not {list(residual.shape)}",
        )
        check_same(op, "residual", residual, input)
    return out


def pool_sizes(
    op: str,
    height: int,
    width: int,
    window: Window,
    ceil_mode: bool = False,
) -> tuple[int, int]:
    """The size of a pooled map; the padding is at most half of the kernel, dilated or not."""
    kernel, padding = window.kernel, window.padding
    check(
        padding[0] <= kernel[0] // 2 and padding[1] <= kernel[1] // 2,
        op,
        f"the pool's padding {padding[0]}x{padding[1]} is more than half of its "
        f"kernel {kernel[0]}x{kernel[1]}; pad the input beforehand",
    )
    return output_sizes(op, height, width, window, ceil_mode)


def pool2d_output(
    op: str,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> Tensor:
    """An output for a pool over input: no data, but shape, dtype and memory format."""
    check_input(op, input)
    kernel = pair(op, "kernel_size", kernel_size, 1)
    window = Window(
        kernel,
        stride_or_kernel(op, "stride", stride, kernel),
        pair(op, "padding", padding, 0),
        pair(op, "dilation", dilation, 1),
    )
    height, width = pool_sizes(op, input.shape[2], input.shape[3], window, ceil_mode)
    return empty([input.shape[0], input.shape[1], height, width], input, like=(input,))


def empty(sizes: list[int], input: Tensor, like: tuple[Tensor, ...]) -> Tensor:
    """An output: channels_last if one of ``like`` is laid out so, otherwise contiguous."""
    formats = [suggest_memory_format(tensor) for tensor in like]
    channels_last = torch.channels_last in formats
    return torch.empty(
        sizes,
        dtype=input.dtype,
        device=input.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )


def _scalar_type(tensor: Tensor) -> str:
    """The dtype by the name that C++ gives it, e.g. Float."""
    names = {
        torch.float32: "Float",
        torch.float64: "Double",
        torch.float16: "Half",
        torch.bfloat16: "BFloat16",
    }
    return names.get(tensor.dtype, str(tensor.dtype))
