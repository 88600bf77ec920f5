"""What ``zoo.optimize`` returns: a module, for inference only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo.backends.prepared import Prepared
from zoo.compiler.network import ChangedWeightsError, Network, PlanError
from zoo.compiler.report import Report, report
from zoo.compiler.saved import SavedModuleError, read, write
from zoo.errors import ZooError
from zoo.ops import cpu_capability

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
        module: nn.Module | None,
        network: Network | Prepared | None,
        reason: str | None,
        backend: str = "zoo",
        tried: Mapping[str, float | str] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._module = [module]  # in a list: its parameters are not this module's
        self.network = network
        self.reason = reason
        self.backend = backend
        self.tried = dict(tried or {})
        for name, value in (_attributes(module) if attributes is None else attributes).items():
            setattr(self, name, value)
        self.training = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the original returns. Raises RuntimeError where an input requires grad.

        From a file there is no original: PlanError for inputs that its graphs do not take.
        ChangedWeightsError for inputs of a new size, when the original's weights have changed.
        """
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
                except ChangedWeightsError:
                    raise
                except ZooError:
                    if self._module[0] is None:
                        raise
                    # These sizes it does not take: they run as they are.
            assert self._module[0] is not None
            return self._module[0](*args, **kwargs)

    def report(self, *args: Any, **kwargs: Any) -> Report:
        """Run on these inputs and say what each step took.

        Without inputs it runs on noise of the size that ran last, the example's at first. Raises
        PlanError without a plan.
        """
        if not isinstance(self.network, Network):
            why = self.reason or f"backend {self.backend!r} runs it"
            raise PlanError(f"there is no plan to report on: {why}")
        with torch.no_grad():
            if args or kwargs:
                leaves = self.network.captured[0].flatten(args, kwargs)
            else:
                leaves = self.network.inputs_of_last_plan()
            return report(self.network, leaves)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the network to a file that :func:`zoo.load_optimized` reads, on any CPU.

        The file is safetensors: the rewritten graphs as JSON, and their weights, not packed.
        ``num_classes``, ``pretrained_cfg`` and what else is plain data is kept. It is written whole
        or not at all.

        Raises:
            SavedModuleError: it runs as it was, the graph holds what cannot be written down, or
                the folder cannot be written to.
            UsageError: the file exists and ``overwrite`` is false, or the weights of the original
                have changed since it was optimized.
        """
        if not isinstance(self.network, Network):
            why = self.reason or f"backend {self.backend!r} runs it"
            raise SavedModuleError(
                f"there is no plan to save ({why}); save the original's state_dict instead"
            )
        self.network.check_weights()
        write(self.network, _attributes(self), path, overwrite)

    def train(self, mode: bool = True) -> OptimizedModule:
        """Only ``train(False)``; raises RuntimeError otherwise."""
        if mode:
            raise RuntimeError(
                "an optimized module cannot be trained; train the original, and optimize it again"
            )
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizedModule:
        """Another module on the same weights and plans, which nothing changes."""
        return OptimizedModule(
            self._module[0],
            self.network,
            self.reason,
            self.backend,
            self.tried,
            _attributes(self),
        )

    def __reduce__(self) -> Any:
        """Refused: plans hold addresses of this process."""
        raise TypeError("an optimized module cannot be pickled; use its save(path)")


def load_optimized(path: str | os.PathLike[str]) -> OptimizedModule:
    """An optimized module from a file that ``save`` has written, for inference on this CPU.

    The weights are packed for this CPU and plans are made as inputs come, as those of
    :func:`zoo.optimize` are; the original's code is not needed. Inputs of sizes that the graph was
    not captured for are a PlanError.

    Loading runs no code of the file: it holds tensors and a list of known ops. Hashes within it
    show damage, but not who wrote it.

    Example:
        >>> fast = zoo.optimize(model, torch.randn(1, 3, 224, 224))
        >>> fast.save("model.zoo.safetensors")
        >>> fast = zoo.load_optimized("model.zoo.safetensors")  # elsewhere, later

    Raises:
        SavedModuleError: there is no such file, it is damaged or of another kind, or of another
            version's format.
        UsageError: ``ZOO_CPU_CAPABILITY`` names what this machine lacks.
    """
    cpu_capability()
    network, attributes = read(path)
    kept = {name: value for name, value in attributes.items() if name in _ATTRIBUTES}
    return OptimizedModule(None, network, None, attributes=kept)


def _attributes(module: nn.Module | None) -> dict[str, Any]:
    return {name: getattr(module, name) for name in _ATTRIBUTES if hasattr(module, name)}
