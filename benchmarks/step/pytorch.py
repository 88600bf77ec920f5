"""Steps of training in PyTorch: eager, compiled, and with zoo's fused ops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function

import zoo
from step import profiling
from step.cases import EPSILON, GATE_STEPS, LEARNING_RATE, MEAN, PADDING, STD, Case
from zoo import ops
from zoo.benchmark.pytorch import describe_torch
from zoo.data.datasets.base import ImagesInMemory
from zoo.data.loader import Loader
from zoo.data.pipeline import train_transform
from zoo.nn import fuse_for_training

Arrays = dict[str, np.ndarray]
"""``images`` uint8 (N, 3, H, W), ``targets`` int64 (N,), and the weights by their names."""


def make(case: Case, file: IO[bytes]) -> None:
    """Write noise for images, targets and initial weights."""
    torch.manual_seed(0)
    model = _create(case)
    images = torch.randint(0, 256, (case.images, 3, case.side, case.side), dtype=torch.uint8)
    targets = torch.randint(0, case.classes, (case.images,))
    weights = {name: each.numpy() for name, each in model.state_dict().items()}
    np.savez(file, images=images.numpy(), targets=targets.numpy(), **weights)


def reference_losses(case: Case, arrays: Arrays) -> list[float]:
    """The losses of the first steps, in float64."""
    torch.set_num_threads(case.threads)
    model = _create(case, arrays).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=EPSILON)
    losses = []
    for number in range(GATE_STEPS):
        images, targets = _plain_batch(case, arrays, number)
        loss = nn.functional.cross_entropy(model(images.double()), targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def describe() -> dict[str, Any]:
    """What this process runs with."""
    ours = {"zoo_capability": ops.cpu_capability(), "zoo_build": ops.build_info()}
    return {**describe_torch(torch.float32), **ours}


class Contestant:
    """A network in training.

    Args:
        name: ``zoo``, ``eager`` or ``compile``. All are channels_last, with Adam's fused kernel.
    """

    returns_memory = True  # to malloc, as it is freed
    steps_at_once = 1

    def __init__(self, name: str, case: Case, arrays: Arrays) -> None:
        torch.set_num_threads(case.threads)
        self._case, self._arrays = case, arrays
        self._model = _create(case, arrays).to(memory_format=torch.channels_last)
        if name == "zoo":
            self._model = fuse_for_training(self._model)
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), lr=LEARNING_RATE, eps=EPSILON, fused=True
        )
        self._compiled = name == "compile"
        self._loss_of = torch.compile(self._loss) if self._compiled else self._loss
        size = (3, case.side, case.side)
        names = tuple(map(str, range(case.classes)))
        data = ImagesInMemory(
            torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["targets"]), names, None
        )
        transform = train_transform(size, mean=(MEAN,) * 3, std=(STD,) * 3, crop_padding=PADDING)
        loader = Loader(data, case.batch, transform=transform, shuffle=True, drop_last=True)
        self._batches = _endless(loader)

    def step(self) -> Tensor:
        """Train on the next batch."""
        return self._train(*self.load())

    def load(self) -> tuple[Tensor, Tensor]:
        """The next batch."""
        images, targets = next(self._batches)
        return images.contiguous(memory_format=torch.channels_last), targets

    def checked_step(self, number: int) -> float:
        """Train on a batch that all contestants have; return the loss."""
        images, targets = _plain_batch(self._case, self._arrays, number)
        images = images.contiguous(memory_format=torch.channels_last)
        return self._train(images, targets).item()

    def saved_mb(self) -> float | None:
        """MiB that the forward keeps for the backward, parameters left out."""
        if self._compiled:
            return None
        known = {each.untyped_storage().data_ptr() for each in self._model.parameters()}
        saved: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        batch = self.load()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = self._loss(*batch)
        del loss
        return sum(saved.values()) / 2**20

    def profile(self, steps: int) -> dict[str, Any]:
        """Look into some steps."""
        for _ in range(profiling.WARM_UP):
            self.step()
        batches = [self.load() for _ in range(steps)]
        return profiling.profile([lambda batch=batch: self._train(*batch) for batch in batches])

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self._model(images), targets)

    def _train(self, images: Tensor, targets: Tensor) -> Tensor:
        forward, backward, optimizer = profiling.PHASES
        with record_function(forward):
            loss = self._loss_of(images, targets)
        with record_function(backward):
            loss.backward()
        with record_function(optimizer):
            self._optimizer.step()
            self._optimizer.zero_grad()
        return loss


def _create(case: Case, arrays: Arrays | None = None) -> nn.Module:
    model = zoo.create_model(case.model, num_classes=case.classes).train()
    if arrays is not None:
        names = model.state_dict()
        model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in names})
    return model


def _plain_batch(case: Case, arrays: Arrays, number: int) -> tuple[Tensor, Tensor]:
    part = slice(number * case.batch, (number + 1) * case.batch)
    images = torch.from_numpy(arrays["images"][part]).float().div(255).sub(MEAN).div(STD)
    return images, torch.from_numpy(arrays["targets"][part])


def _endless(loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        for batch in loader:
            yield batch.images, batch.targets
        epoch += 1
