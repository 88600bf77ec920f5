"""Loads the compiled ops: importing ``zoo._C`` registers them as ``torch.ops.zoo.*``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

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


def op(name: str) -> Any:
    """The overload ``zoo::name``, called without a look-up each time."""
    return getattr(torch.ops.zoo, name).default


def fake(name: str) -> Callable[[Function], Function]:
    """Register the function as what ``zoo::name`` does to shapes, for tracing without data."""
    register: Callable[[Function], Function] = torch.library.register_fake(f"zoo::{name}")
    return register
