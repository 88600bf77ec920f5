"""Loads the compiled ops: importing ``zoo._C`` registers them as ``torch.ops.zoo.*``."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.compiler import is_compiling

from zoo.ops._shapes import listed

try:
    from zoo import _C as extension

    # What was compiled for another minor version of torch may load all the same, and break later.
    if extension.build_info()["torch"].split(".")[:2] != torch.__version__.split(".")[:2]:
        raise ImportError(f"they were compiled for torch {extension.build_info()['torch']}")
except ImportError as error:
    raise ImportError(
        f"zoo's compiled ops do not load ({error}); build them for this torch "
        f"({torch.__version__}) with: pip install --no-build-isolation --force-reinstall --no-deps "
        "zoo-vision, or in a source tree: pip install --no-build-isolation -e ."
    ) from error

__all__ = ["extension", "fake", "op"]

Function = TypeVar("Function", bound=Callable[..., Any])


def op(name: str) -> Callable[..., Any]:
    """``zoo::name`` as a function that takes all its arguments, in the schema's order.

    One number is taken for a pair. The call goes by compiled code that knows the types
    (csrc/calls.cpp); where that does not know an argument, or where torch.compile or torch.export
    trace, by the overload.
    """
    call = getattr(extension, name)
    overload = getattr(torch.ops.zoo, name).default
    parameters = overload._schema.arguments
    pairs = [(i, each.name) for i, each in enumerate(parameters) if each.N == 2]
    positional = [each.kwarg_only for each in parameters].count(False)
    names = [each.name for each in parameters[positional:]]

    def run(*arguments: Any) -> Any:
        if not is_compiling():
            output = call(*arguments)
            if output is not NotImplemented:
                return output
        given = [_untraced(each) for each in arguments]
        for i, what in pairs:
            given[i] = listed(what, given[i])
        return overload(*given[:positional], **dict(zip(names, given[positional:], strict=True)))

    return run


def _untraced(value: Any) -> Any:
    """Sizes as numbers where torch.jit.trace has made tensors of them: no overload takes those."""
    if isinstance(value, list | tuple):
        return [operator.index(each) if isinstance(each, Tensor) else each for each in value]
    return value


def fake(name: str) -> Callable[[Function], Function]:
    """Register the function as what ``zoo::name`` does to shapes, for tracing without data."""
    register: Callable[[Function], Function] = torch.library.register_fake(f"zoo::{name}")
    return register
