"""Batches of a data set, the same for a seed and epoch whoever assembles them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.config import say
from zoo.data.ahead import ahead
from zoo.data.pipeline import Transform
from zoo.data.randomness import sample_keys
from zoo.data.sources import Failure, open_source
from zoo.errors import UsageError, ZooError


class Batch(NamedTuple):
    """Some samples.

    Attributes:
        images: float32 ``(B, C, H, W)``, normalised.
        targets: int64 ``(B,)``, or probabilities float32 ``(B, num_classes)``.
        indices: int64 ``(B,)``, the samples' numbers within the data set.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor


Assembled = tuple[Batch, list[Failure]]
"""A batch, and the samples that are missing in it."""


class Loader:
    """Iterates over the batches of an epoch.

    A batch is a function of the seed, the epoch and its number: worker processes only decide who
    computes it. The order of the samples comes from the seed and the epoch, the random parameters
    of a sample from the seed, the epoch and its index.

    Args:
        dataset: has ``targets`` and either ``images``, a tensor ``(N, C, H, W)``, or ``paths``;
            any other map-style data set is asked for its items one by one.
        batch_size: samples per batch and process.
        transform: what :func:`zoo.data.pipeline.train_transform` or ``eval_transform`` returns.
        seed: of the order and the augmentations.
        shuffle: in an order that differs between epochs; otherwise in that of the data set.
        workers: how many assemble batches ahead; with 0 they are assembled when asked for.
            They are threads, which decode and augment outside of Python's lock, or processes
            where an augmentation draws from global generators, of which a process has one.
        drop_last: leave out the last batch where it is not full.
        rank, world: this process and how many share each batch. Together they see the batch of
            ``world * batch_size`` samples, each its share in order of ranks. The last shares of
            the last batch may be smaller, or have no rows.
        on_error: what an unreadable image does: ``"raise"``, or ``"skip"``: it is reported once
            on stderr, and its batch has a row less.

    Raises:
        UsageError: an argument is out of range, or there are no samples.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        *,
        transform: Transform,
        seed: int = 0,
        shuffle: bool = False,
        workers: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        if workers < 0:
            raise UsageError(f"the number of workers must be at least 0, not {workers}")
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank} is not one of a world of {world}")
        if on_error not in ("raise", "skip"):
            raise UsageError(f"on_error must be raise or skip, not {on_error!r}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.transform = transform
        self.workers = workers
        self.on_error = on_error
        self.epoch = 0
        self.skipped: dict[int, str] = {}
        """Index -> why, of the samples that were left out so far."""
        self._batches = _Batches(dataset, batch_size, transform, seed, shuffle, rank, world)
        samples = self._batches.samples
        if samples == 0:
            raise UsageError("the data set is empty: there is nothing to load")
        whole = samples // (batch_size * world)
        if drop_last and whole == 0:
            raise UsageError(
                f"{samples} samples do not fill one batch of {batch_size * world}: "
                "choose a smaller batch size"
            )
        self._length = whole if drop_last else math.ceil(samples / (batch_size * world))
        self._start = 0
        self._numbers = _Numbers()
        self._processes: DataLoader[Any] | None = None

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, of the iterations that begin from now on."""
        self.epoch = epoch

    def start(self, batch: int) -> None:
        """Begin the next iteration, and only that one, at this batch of the epoch."""
        if not 0 <= batch <= self._length:
            raise UsageError(f"there is no batch {batch}: an epoch has {self._length}")
        self._start = batch

    def __iter__(self) -> Iterator[Batch]:
        """Yield the epoch's batches.

        Raises:
            ZooError: an image cannot be read, and ``on_error`` is ``"raise"``.
        """
        first, self._start = self._start, 0
        numbers = [(self.epoch, number) for number in range(first, self._length)]
        for batch, failures in self._assembled(numbers):
            for failure in failures:
                self._note(failure)
            yield batch

    def _assembled(self, numbers: list[tuple[int, int]]) -> Iterator[Assembled]:
        if self.workers == 0 or not numbers:
            return map(self._batches.__getitem__, numbers)
        if not any(stage.global_state for stage in self.transform.stages):
            return ahead(self._batches.__getitem__, numbers, self.workers)
        return self._in_processes(numbers)

    def _in_processes(self, numbers: list[tuple[int, int]]) -> Iterator[Assembled]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are more processes than processors
            if self._processes is None:
                self._processes = DataLoader(
                    self._batches,
                    batch_size=None,
                    sampler=self._numbers,
                    num_workers=min(self.workers, self._length),
                    collate_fn=_unchanged,
                    persistent_workers=True,
                )
            # The processes, and with them the sampler, outlive the epoch.
            self._numbers.current = numbers
            return iter(self._processes)

    def _note(self, failure: Failure) -> None:
        if self.on_error == "raise":
            raise ZooError(
                f"{failure.name}: {failure.reason}; mend or remove it, or let unreadable images "
                "be skipped"
            )
        if failure.sample not in self.skipped:
            self.skipped[failure.sample] = failure.reason
            say(f"{failure.name}: {failure.reason}; left out")


class _Batches(Dataset[Assembled]):
    """Assembles the batch of an (epoch, number)."""

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        transform: Transform,
        seed: int,
        shuffle: bool,
        rank: int,
        world: int,
    ) -> None:
        self.source = open_source(dataset, transform.fit, transform.input_size)
        self.samples = len(self.source.targets)
        self.batch_size = batch_size
        self.transform = transform
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self._order: tuple[int, Tensor] | None = None

    def __getitem__(self, place: tuple[int, int]) -> Assembled:
        epoch, number = place
        indices = self._share(epoch, number)
        keys = sample_keys(self.seed, epoch, indices)
        images, failures = self.source.read(indices, keys)
        if failures:
            bad = torch.tensor([failure.sample for failure in failures])
            good = ~torch.isin(indices, bad)
            indices, keys = indices[good], keys[good]
        images, targets = self.transform(
            images, self.source.targets[indices], keys, fitted=self.source.fitted
        )
        return Batch(images, targets, indices), failures

    def _share(self, epoch: int, number: int) -> Tensor:
        together = self.batch_size * self.world
        batch = self._order_of(epoch)[number * together : (number + 1) * together]
        if len(batch) == together:
            share = self.batch_size
        else:
            # Even, so that neighbours, which are mixed, stay together.
            share = min(self.batch_size, 2 * math.ceil(len(batch) / (2 * self.world)))
        return batch[self.rank * share : (self.rank + 1) * share]

    def _order_of(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            order = torch.arange(self.samples)
            if self.shuffle:
                # The seed's own output number epoch, as the samples' keys descend from it.
                key = int(sample_keys(self.seed, epoch, torch.tensor([-1])))
                generator = torch.Generator().manual_seed(key & (2**63 - 1))
                order = torch.randperm(self.samples, generator=generator)
            self._order = epoch, order
        return self._order[1]


class _Numbers:
    """A sampler that yields what it is told to."""

    def __init__(self) -> None:
        self.current: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.current)

    def __len__(self) -> int:
        return len(self.current)


def _unchanged(item: Any) -> Any:
    return item
