"""Augmentations of the registry as steps of the input pipeline, with random numbers by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.data.randomness import generator_of
from zoo.models import create_augmentation
from zoo.registry import get_registry
from zoo.specs import Augmentation

Chosen = str | tuple[str, Mapping[str, Any]]
"""An augmentation: its name in the registry, alone or with its arguments."""


@dataclass(frozen=True)
class Stage:
    """One augmentation of a batch.

    Attributes:
        name: canonical name.
        spec: what the registry says of it.
        augmentation: what its factory returned.
        generator: what the factory was given to draw from, if it takes one.
    """

    name: str
    spec: Augmentation
    augmentation: Callable[..., Any]
    generator: torch.Generator = field(repr=False)

    @property
    def global_state(self) -> bool:
        """Whether it sets global random generators, so that no thread may run beside it."""
        return not self.spec.per_sample

    @property
    def soft(self) -> bool:
        """Whether it mixes targets."""
        return self.spec.targets == "soft"

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Augment ``(N, C, H, W)``, N > 0.

        Args:
            images: uint8, or float32 in [0, 1].
            targets: what it mixes, probabilities ``(N, num_classes)``; otherwise anything.
            keys: int64 ``(N,)``, of this stage alone.
        """
        if self.spec.level == "image":
            rows = [
                self._drawing(int(key), image)
                for image, key in zip(images, keys.tolist(), strict=True)
            ]
            return torch.stack(rows), targets
        given = (images, targets) if self.soft else (images,)
        if self.spec.per_sample:
            result = self.augmentation(*given, keys=keys)
        else:
            result = self._drawing(int(keys[0]), *given)
        return result if self.soft else (result, targets)

    def _drawing(self, key: int, *given: Any) -> Any:
        self.generator.manual_seed(key & (2**63 - 1))
        with _global_generator_at(key):
            return self.augmentation(*given)


def create_stage(chosen: Chosen) -> Stage:
    """Create the stage of an augmentation.

    Raises:
        UnknownName, AmbiguousName: from the name.
        UsageError: the factory does not take the arguments.
    """
    name, arguments = (chosen, {}) if isinstance(chosen, str) else chosen
    entry = get_registry().resolve("augmentations", name)
    generator = torch.Generator()
    augmentation = create_augmentation(entry.name, generator=generator, **arguments)
    return Stage(entry.name, entry.spec, augmentation, generator)


@contextmanager
def _global_generator_at(key: int) -> Iterator[None]:
    """Let torch's global generator start from a key: what takes no other draws from it."""
    state = torch.get_rng_state()
    torch.set_rng_state(generator_of(key).get_state())
    try:
        yield
    finally:
        torch.set_rng_state(state)
