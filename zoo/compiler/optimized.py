"""What ``zoo.optimize`` returns: a module, for inference only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo.backends.prepared import Prepared
from zoo.compiler.network import Network, PlanError
from zoo.compiler.report import Report, report
from zoo.errors import ZooError

# What callers of image models look for on them.
_ATTRIBUTES = ("pretrained_cfg", "default_cfg", "num_classes", "num_features", "feature_info")


class OptimizedModule(nn.Module):
    """A network that runs by a backend, or as it was where none serves.

    Attributes:
        network: zoo's plans, or what another backend prepared; None where there is neither.
        reason: why it runs as it was; None where it runs by a backend.
        backend: what runs it, or should have.
        tried: backend -> seconds of a call, if they were compared, or why it does not serve.
    """

    def __init__(
        self,
        module: nn.Module,
        network: Network | Prepared | None,
        reason: str | None,
        backend: str = "zoo",
        tried: Mapping[str, float | str] | None = None,
    ) -> None:
        super().__init__()
        self._module = [module]  # in a list: its parameters are not this module's
        self.network = network
        self.reason = reason
        self.backend = backend
        self.tried = dict(tried or {})
        for name in _ATTRIBUTES:
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))
        self.training = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the original returns. Raises RuntimeError where an input requires grad."""
        if torch.is_grad_enabled() and any(
            isinstance(leaf, Tensor) and leaf.requires_grad
            for leaf in pytree.tree_leaves((args, kwargs))
        ):
            raise RuntimeError(
                "an optimized module is for inference only, but an input requires grad; "
                "use the original module, or call it under torch.no_grad()"
            )
        with torch.no_grad():
            if self.network is not None:
                try:
                    return self.network(*args, **kwargs)
                except ZooError:
                    pass  # these sizes it does not take: they run as they are
            return self._module[0](*args, **kwargs)

    def report(self, *args: Any, **kwargs: Any) -> Report:
        """Run on these inputs and say what each step took. Raises PlanError without a plan."""
        if not isinstance(self.network, Network):
            why = self.reason or f"backend {self.backend!r} runs it"
            raise PlanError(f"there is no plan to report on: {why}")
        with torch.no_grad():
            return report(self.network, self.network.captured[0].flatten(args, kwargs))

    def train(self, mode: bool = True) -> OptimizedModule:
        """Only ``train(False)``; raises RuntimeError otherwise."""
        if mode:
            raise RuntimeError(
                "an optimized module cannot be trained; train the original, and optimize it again"
            )
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizedModule:
        """Another module on the same weights and plans, which nothing changes."""
        return OptimizedModule(self._module[0], self.network, self.reason, self.backend, self.tried)

    def __reduce__(self) -> Any:
        """Refused: plans hold addresses of this process."""
        raise TypeError("an optimized module cannot be pickled; pickle the original")
