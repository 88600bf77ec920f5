"""A module in a backend's hands: prepared anew as sizes of inputs occur."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo import backends
from zoo.errors import ZooError
from zoo.names import one_line
from zoo.specs import Backend

MOST = 8  # preparations kept, each with weights of its own; the one not used longest makes room


class Prepared:
    """Runs a module by a backend. Callers on several threads take turns.

    Args:
        backend: what runs it.
        module: in eval mode; it is kept, for sizes that are still to come.
        args: positional inputs to prepare for at once.
        kwargs: inputs by name.

    Raises:
        ZooError: the backend cannot take this module or inputs of these sizes.
    """

    def __init__(
        self, backend: Backend, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.backend = backend
        self._module = module
        # That it cannot be prepared is remembered too: it may have taken seconds to find out.
        self._runs: OrderedDict[Any, backends.Run | ZooError] = OrderedDict()
        self._lock = threading.Lock()
        self._run(args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns. Raises ZooError where the backend cannot take these inputs."""
        with self._lock, torch.no_grad():
            run = self._run(args, kwargs)
            try:
                return run(*args, **kwargs)
            except Exception as error:
                name = self.backend.name
                raise ZooError(f"backend {name!r} failed: {one_line(error)}") from error

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> backends.Run:
        key: Any = (torch.get_num_threads(),)
        if not self.backend.dynamic:
            leaves, structure = pytree.tree_flatten((args, kwargs))
            key += (structure, *map(_signature, leaves))
        if key not in self._runs:
            try:
                run = backends.prepare(self.backend, self._module, args, kwargs)
            except ZooError as error:
                self._runs[key] = error
            else:
                self._runs[key] = run
            if len(self._runs) > MOST:
                self._runs.popitem(last=False)
        self._runs.move_to_end(key)
        found = self._runs[key]
        if isinstance(found, ZooError):
            raise ZooError(str(found))
        return found


def _signature(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.dtype, leaf.shape
    return type(leaf), leaf
