"""Which modules and calls are a max-pool of 2x2 windows, side by side."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from zoo.nn._batch_norm import is_plain

_OPTIONS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def module_is_pool(module: nn.Module) -> bool:
    """Whether a module is that pool, with the options that it has now."""
    return (
        type(module) is nn.MaxPool2d
        and is_plain(module)
        and _is_2x2(**{name: getattr(module, name) for name in _OPTIONS})
    )


def node_is_pool(node: fx.Node) -> bool:
    """Whether a node calls a function that is that pool."""
    if node.op != "call_function" or node.target not in (F.max_pool2d, torch.max_pool2d):
        return False
    options = dict(zip(_OPTIONS, node.args[1:], strict=False)) | node.kwargs
    return set(options) <= set(_OPTIONS) and _is_2x2(**options)


def _is_2x2(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    return_indices: Any = False,
) -> bool:
    def is_pair(value: Any, number: int) -> bool:
        return value == number or value in ((number, number), [number, number])

    return (
        is_pair(kernel_size, 2)
        and (stride is None or stride in ((), []) or is_pair(stride, 2))
        and is_pair(padding, 0)
        and is_pair(dilation, 1)
        and ceil_mode is False
        and return_indices is False
    )
