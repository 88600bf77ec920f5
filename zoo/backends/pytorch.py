"""PyTorch's own ways, each as its users get the best of it."""

from __future__ import annotations

import copy
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    """``torch.compile``, with frozen parameters or not: what is faster for the example.

    Most networks gain by freezing, whose convolutions take packed weights and fuse what follows;
    small ones lose by those convolutions' calls.

    Raises:
        ZooError: there is no C++ compiler.
    """
    _check_compiler("torch.compile")
    frozen, plain = (compiled(module, freezing, args, kwargs) for freezing in (True, False))
    return _faster(frozen, plain, args, kwargs)


def compiled(
    module: nn.Module, freezing: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Run:
    """A copy of the module in channels_last, compiled by ``torch.compile``."""
    import torch._dynamo.config
    import torch._inductor.config

    turned = copy.deepcopy(module).to(memory_format=torch.channels_last)
    # Dynamo takes what it has compiled for other options for something else.
    fast = torch.compile(turned, dynamic=False, options={"freezing": freezing})

    def run(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = pytree.tree_map(channels_last, (args, kwargs))
        with torch.no_grad():
            return fast(*args, **kwargs)

    with (
        # As an option alone it would be set only once dynamo has made the parameters inputs, and
        # nothing would be frozen.
        torch._inductor.config.patch(freezing=freezing),
        # Modules of one class share dynamo's cache, and frozen ones an entry each.
        torch._dynamo.config.patch(recompile_limit=256),
    ):
        run(*args, **kwargs)
    return run


def _faster(one: Run, other: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """The one of less time, the least of runs in turn."""
    best = {one: float("inf"), other: float("inf")}
    for _ in range(5):
        for run in best:
            start = time.perf_counter()
            run(*args, **kwargs)
            best[run] = min(best[run], time.perf_counter() - start)
    return min(best, key=best.__getitem__)


def aotinductor(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """The exported graph with frozen parameters, compiled by AOTInductor and loaded again.

    Raises:
        ZooError: there is no C++ compiler.
    """
    import torch._inductor.config

    _check_compiler("AOTInductor")
    turned = copy.deepcopy(module).to(memory_format=torch.channels_last)
    args, kwargs = pytree.tree_map(_as_compiled, (args, kwargs))
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        exported = torch.export.export(turned, args, kwargs)
        # Elsewhere the library, which holds the weights, would stay in inductor's cache.
        with torch._inductor.config.patch({"aot_inductor.output_path": folder}):
            package = torch._inductor.aoti_compile_and_package(
                exported,
                package_path=f"{folder}/network.pt2",
                inductor_configs={"freezing": True},
            )
        # It unpacks the package, and would leave that behind if the process were killed.
        with _temporary_files_in(folder):
            loaded = torch._inductor.aoti_load_package(package)

    def run(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = pytree.tree_map(_as_compiled, (args, kwargs))
        with torch.no_grad():
            return loaded(*args, **kwargs)

    return run


def _as_compiled(leaf: Any) -> Any:
    """A tensor in the layout that AOTInductor's code takes for granted."""
    return (
        leaf.contiguous() if isinstance(leaf, Tensor) and leaf.dim() != 4 else channels_last(leaf)
    )


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Have C++ make its temporary files in a folder."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _check_compiler(who: str) -> None:
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, OSError):
        raise ZooError(f"{who} finds no C++ compiler: install g++ or set CXX") from None
    # It looks for CUDA's headers, and warns where there is no such device.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
