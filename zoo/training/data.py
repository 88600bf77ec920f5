"""The splits that a run uses, and what is wrong with them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.data.datasets import fingerprint, open_dataset, splits, validation_split
from zoo.errors import DataError, UnknownName, UsageError
from zoo.registry import get_registry
from zoo.specs import Dataset
from zoo.training.config import TrainConfig


@dataclass(frozen=True)
class Data:
    """The data of a run.

    Attributes:
        train, evaluation: data sets with ``targets`` and ``images`` or ``paths``.
        classes: names, the same in both.
        split: where ``evaluation`` comes from.
        spec: what the registry says of the data set; None for a path.
        notes: what is odd, a line each.
    """

    train: Any
    evaluation: Any
    classes: Sequence[str]
    split: str
    spec: Dataset | None
    notes: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int, int] | None:
        """Channels, height and width of all images, where they have the same."""
        images = getattr(self.train, "images", None)
        if images is not None:
            _, channels, height, width = images.shape
            return channels, height, width
        return self.spec.input_size if self.spec else None

    def fingerprints(self) -> dict[str, str]:
        """What identifies the content of either part."""
        return {"train": fingerprint(self.train), "evaluation": fingerprint(self.evaluation)}


def open_data(config: TrainConfig) -> Data:
    """Open the data set that the settings name.

    Raises:
        UsageError: there is no such data set or split.
        DataError: it cannot be had or read, has one class, or splits of different classes.
    """
    known = splits(config.dataset, config.data_dir)
    options: dict[str, Any] = {"root": config.data_dir}
    if config.dataset_download:
        options["download"] = True
    train: Any = open_dataset(config.dataset, split=config.train_split, **options)
    split = config.val_split or validation_split(known)
    if split is None:
        split = f"{config.val_share:.0%} of {config.train_split}"
        train, evaluation = _hold_out(train, config.val_share)
    else:
        evaluation = open_dataset(config.dataset, split=split, **options)
    _check(config.dataset, train, evaluation, split)
    return Data(
        train,
        evaluation,
        list(train.classes),
        split,
        _spec(config),
        _oddities(train, evaluation, split),
    )


def _spec(config: TrainConfig) -> Dataset | None:
    try:
        spec: Dataset = get_registry().resolve("datasets", config.dataset).spec
    except UnknownName:
        return None
    return spec


def _check(name: str, train: Any, evaluation: Any, split: str) -> None:
    if len(train.classes) < 2:
        raise DataError(
            f"{name} has one class, {train.classes[0]!r}: there is nothing to tell apart"
        )
    if len(train.targets.unique()) < 2:
        only = train.classes[int(train.targets[0])]
        raise DataError(f"{name} has images of one class, {only!r}: there is nothing to tell apart")
    ours, theirs = list(train.classes), list(evaluation.classes)
    if ours != theirs:
        differing = sorted({*ours} ^ {*theirs}) or ["their order"]
        raise DataError(
            f"{name}: split {split!r} has other classes than those to train on: "
            f"{', '.join(map(repr, differing[:5]))}"
        )


def _oddities(train: Any, evaluation: Any, split: str) -> tuple[str, ...]:
    notes = []
    for targets, what in ((train.targets, "to train on"), (evaluation.targets, f"in {split}")):
        counts = torch.bincount(targets, minlength=len(train.classes))
        empty = [
            repr(name) for name, n in zip(train.classes, counts.tolist(), strict=True) if not n
        ]
        if empty:
            more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
            notes.append(f"no images {what} of the class {', '.join(empty[:5])}{more}")
    return tuple(notes)


def _hold_out(dataset: Any, share: float) -> tuple[Any, Any]:
    """Split a data set in two, class by class; the same way each time."""
    generator = torch.Generator().manual_seed(0)
    kept, held = [], []
    for label in dataset.targets.unique():
        members = (dataset.targets == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        count = round(share * len(members))
        held.append(members[:count])
        kept.append(members[count:])
    if not sum(map(len, held)):
        raise UsageError(
            "there is no split to evaluate on, and too few images to keep some for it: name a "
            "split by --val-split, or keep more by --val-share"
        )
    return _part(dataset, torch.cat(kept)), _part(dataset, torch.cat(held))


def _part(dataset: Any, indices: Tensor) -> Any:
    part = copy.copy(dataset)
    indices = indices.sort().values
    part.targets = dataset.targets[indices]
    if hasattr(dataset, "images"):
        part.images = dataset.images[indices]
    else:
        part.paths = [dataset.paths[index] for index in indices.tolist()]
    return part
