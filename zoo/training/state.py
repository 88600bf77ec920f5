"""The state that a run goes on from: one safetensors file, tensors and JSON, nothing pickled.

The file is written whole or not at all. It holds the weights, the optimizer, the average of the
weights, the loss scale, and the place: epoch, batch and steps done, the sums of the epoch so far,
and the rows of the summary. Learning rates and random numbers are functions of the step and the
seed (:func:`seed_step`), so no generator has to be saved.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo import tensor_files
from zoo.errors import ZooError


class StateError(ZooError):
    """The state of a run cannot be written or read."""


KIND = tensor_files.Kind(
    key="zoo.training",
    format=1,
    error=StateError,
    absent="holds no state of a run: delete it to start the run over",
    outdated="delete it to start the run over",
)


@dataclass
class Place:
    """Where a run is.

    Attributes:
        epoch: epochs that are complete.
        batch: batches of this epoch that were trained on.
        updates: steps of the optimizer since the start.
        loss_sum, correct, seen: of this epoch, over all processes: the sum of the losses, images
            classified correctly, images.
        history: a row of ``summary.csv`` for each complete epoch.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    seen: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def end_epoch(self, row: dict[str, float]) -> None:
        """Go on to the first batch of the next epoch."""
        self.history.append(row)
        self.epoch, self.batch = self.epoch + 1, 0
        self.loss_sum = self.correct = self.seen = 0.0


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed the generators of torch, numpy and Python for a step, in each process otherwise.

    So dropout and the like draw the same numbers in a step whatever came before it.
    """
    (wide,) = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    # torch.manual_seed asks every kind of device there might be, which takes a millisecond.
    torch.default_generator.manual_seed(int(wide))
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(int(wide))
    np.random.seed(int(wide) % 2**32)
    random.seed(int(wide))


def write_state(path: Path, parts: Mapping[str, Any], place: Place) -> None:
    """Write a run's state.

    Args:
        parts: what the objects' ``state_dict()`` return, by name; tensors may nest.

    Raises:
        StateError: the file cannot be written; one that was there before stays as it was.
    """
    tensors: dict[str, Tensor] = {}
    description = {
        "place": asdict(place),
        "parts": {name: _pack(part, name, tensors) for name, part in parts.items()},
    }
    tensor_files.write(path, KIND, description, tensors, overwrite=True)


def read_state(path: Path) -> tuple[dict[str, Any], Place]:
    """Read what :func:`write_state` wrote: the parts and the place.

    Raises:
        StateError: the file is damaged or of another kind.
    """
    document, tensors = tensor_files.read(path, KIND)
    try:
        parts = {name: _unpack(part, tensors) for name, part in document["parts"].items()}
        return parts, Place(**document["place"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"{path} is damaged: delete it to start the run over") from error


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Plain JSON for nested containers, the tensors put aside.

    JSON has neither tuples nor keys that are numbers, so each container says what it is.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {
            "dict": [[key, _pack(item, f"{name}.{key}", tensors)] for key, item in value.items()]
        }
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise StateError(
        f"{name} is a {type(value).__name__}, which cannot be saved: use another --opt"
    )


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "tensor":
        return tensors[held]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in held}
    items = [_unpack(item, tensors) for item in held]
    return items if kind == "list" else tuple(items)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state in the memory layout of its parameters.

    Kernels that go through parameter, gradient and moments at once need them laid out alike.
    """
    groups = optimizer.param_groups
    parameters = [parameter for group in groups for parameter in group["params"]]
    held = dict(state["state"])
    for index, values in held.items():
        like = parameters[index]
        held[index] = {
            name: torch.empty_like(like, dtype=value.dtype, device="cpu").copy_(value)
            if isinstance(value, Tensor) and value.shape == like.shape
            else value
            for name, value in values.items()
        }
    optimizer.load_state_dict({**state, "state": held})


def is_finite(module: nn.Module) -> bool:
    """Whether all of a module's floating-point values are finite."""
    held = module.state_dict().values()
    return all(bool(value.isfinite().all()) for value in held if value.is_floating_point())
