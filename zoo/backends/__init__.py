"""Engines that run networks, which plugins offer by the hook ``zoo_backends``.

``zoo.optimize`` and ``zoo bench --model`` find them here. Importing this imports neither torch
nor an engine.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, ZooError
from zoo.names import one_line
from zoo.registry import get_registry, load_target
from zoo.specs import Backend

if TYPE_CHECKING:
    from torch import nn

Run = Callable[..., Any]


def missing(backend: Backend) -> tuple[str, ...]:
    """The modules that a backend requires and that are not installed."""
    return tuple(name for name in backend.requires if importlib.util.find_spec(name) is None)


def usable() -> dict[str, Backend]:
    """The backends that have all they require, by bare name where only one plugin offers it."""
    entries = get_registry().entries("backends")
    bare = Counter(entry.bare for entry in entries)
    names = {entry.bare if bare[entry.bare] == 1 else entry.name: entry.spec for entry in entries}
    return {name: backend for name, backend in names.items() if not missing(backend)}


def find(name: str) -> Backend:
    """The backend of a canonical or bare name.

    Raises:
        UnknownName, AmbiguousName: from the name.
        UsageError: it requires what is not installed.
    """
    backend: Backend = get_registry().resolve("backends", name).spec
    if lacking := missing(backend):
        raise UsageError(
            f"backend {name!r} needs {', '.join(lacking)}, which this environment lacks: install "
            "it, or choose another of zoo list-backends"
        )
    return backend


def prepare(
    backend: Backend, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Run:
    """Have a backend prepare a module for inputs of the example's sizes.

    Raises:
        ZooError: it cannot; one line says why, whatever the engine itself raised.
    """
    target = load_target(backend.prepare)
    try:
        run: Run = target(module, args, dict(kwargs))
    except ZooError:
        raise
    except Exception as error:
        reason = one_line(error) or type(error).__name__
        raise ZooError(f"backend {backend.name!r} cannot prepare it: {reason}") from error
    return run
