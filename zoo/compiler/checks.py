"""Calls are checked before kernels of ours run them on bare memory.

A graph may come from a file, and then nothing vouches for its shapes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils import _pytree as pytree

from zoo.compiler.values import Value


def check_call(target: OpOverload, args: Any, kwargs: Any, result: Value) -> None:
    """Compare what a step writes with what the op's own checks say of its arguments.

    Args:
        target: the op, which knows tensors without data.
        args: its arguments, with values in the place of nodes.
        kwargs: the same by name.
        result: what the step writes.

    Raises:
        RuntimeError: the op refuses the arguments, or its result is not as ``result`` is.
    """

    def meta(leaf: Any) -> Any:
        if isinstance(leaf, Value):
            return torch.empty(leaf.fake.shape, dtype=leaf.fake.dtype, device="meta")
        return leaf

    with unset_fake_temporarily():
        expected = target(*pytree.tree_map(meta, args), **pytree.tree_map(meta, kwargs))
    if (
        not isinstance(expected, Tensor)
        or expected.shape != result.fake.shape
        or expected.dtype != result.fake.dtype
    ):
        raise RuntimeError(f"{target._schema.name} would not give {list(result.fake.shape)}")


def check_view(view: Value) -> None:
    """Raise RuntimeError where a view reaches out of its buffer, or reads it as another dtype."""
    fake, buffer = view.fake, view.buffer
    if fake.dtype != buffer.dtype:
        raise RuntimeError(f"a view of {buffer.dtype} as {fake.dtype}")
    if fake.numel() == 0:
        return
    # Strides are never negative.
    last = fake.storage_offset() + sum(
        (size - 1) * stride for size, stride in zip(fake.shape, fake.stride(), strict=True)
    )
    if not 0 <= last < buffer.elements:
        raise RuntimeError("a view that reaches out of its memory")
