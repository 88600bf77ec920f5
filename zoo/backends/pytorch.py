"""PyTorch's own ways, each as its users get the best of it."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo.backends import Run
from zoo.errors import ZooError


def channels_last(leaf: Any) -> Any:
    """A batch of images in channels_last; anything else as it is."""
    if isinstance(leaf, Tensor) and leaf.dim() == 4:
        return leaf.contiguous(memory_format=torch.channels_last)
    return leaf


def plain(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """The module itself, in the layout that it has."""
    return module


def eager(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """The module itself, a copy of it in channels_last."""
    turned = copy.deepcopy(module).to(memory_format=torch.channels_last)

    def run(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = pytree.tree_map(channels_last, (args, kwargs))
        with torch.no_grad():
            return turned(*args, **kwargs)

    return run


def inductor(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """``torch.compile`` with frozen parameters.

    Raises:
        ZooError: there is no C++ compiler.
    """
    import torch._dynamo.config
    import torch._inductor.config

    _check_compiler("torch.compile")
    turned = copy.deepcopy(module).to(memory_format=torch.channels_last)
    compiled = torch.compile(turned, dynamic=False)

    def run(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = pytree.tree_map(channels_last, (args, kwargs))
        with torch.no_grad():
            return compiled(*args, **kwargs)

    with (
        # As an option of torch.compile it would be set only once dynamo has made the parameters
        # inputs, and nothing would be frozen.
        torch._inductor.config.patch(freezing=True),
        # Modules of one class share dynamo's cache, and frozen ones an entry each.
        torch._dynamo.config.patch(recompile_limit=256),
    ):
        run(*args, **kwargs)
    return run


def _check_compiler(who: str) -> None:
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, OSError):
        raise ZooError(f"{who} finds no C++ compiler: install g++ or set CXX") from None
    # It looks for CUDA's headers, and warns where there is no such device.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
