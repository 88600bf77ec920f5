"""What a look through a data set found, in plain values, and which of it is a problem."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from zoo.data.check.duplicates import exact_groups, near_groups
from zoo.data.check.scan import THUMBNAIL, Sample, readable

IMBALANCE = 10
"""From so many times as many images in a class as in another, a split is called imbalanced."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A label that a model contradicts.

    Attributes:
        sample: number of the sample among those of the check.
        predicted: class that the model names instead. probability: that it gives to it.
        of_label: probability that it gives to the label.
    """

    sample: int
    predicted: int
    probability: float
    of_label: float


@dataclass(frozen=True, slots=True)
class Group:
    """Samples, by number, that are the same (``exact``) or nearly look so.

    Attributes:
        across: they lie in more than one split. differ: they have more than one label.
    """

    samples: tuple[int, ...]
    exact: bool
    across: bool
    differ: bool


@dataclass(frozen=True)
class Report:
    """All that is known of a data set after a check.

    Attributes:
        name: as the user called it. classes: names by index.
        samples: of all splits that could be opened.
        unopened: split -> why it could not be.
        groups: duplicates. doubts: None where no model was asked.
    """

    name: str
    classes: Sequence[str]
    samples: Sequence[Sample]
    unopened: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[Group] = ()
    doubts: Sequence[Doubt] | None = None

    @property
    def splits(self) -> list[str]:
        """Those that could be opened."""
        return list(dict.fromkeys(sample.split for sample in self.samples))

    def counts(self) -> dict[str, list[int]]:
        """Return the number of images of each class, by split."""
        counts = {split: [0] * len(self.classes) for split in self.splits}
        for sample in self.samples:
            counts[sample.split][sample.target] += 1
        return counts

    def document(self) -> Row:
        """Return everything in plain values, for JSON."""
        looks = [look for _, look in readable(self.samples)]
        counts = self.counts()
        return {
            "dataset": self.name,
            "task": "classification",
            "images": len(self.samples),
            "splits": {split: sum(of) for split, of in counts.items()},
            "classes": [
                {"class": name, **{split: of[index] for split, of in counts.items()}}
                for index, name in enumerate(self.classes)
            ],
            "width": _range([look.size[0] for look in looks]),
            "height": _range([look.size[1] for look in looks]),
            "sizes": len({look.size for look in looks}),
            "modes": dict(Counter(look.mode for look in looks).most_common()),
            "turned_by_exif": sum(look.turned for look in looks),
            **_statistics(self.samples),
            "unreadable": [
                {**self.place(number), "error": sample.error}
                for number, sample in enumerate(self.samples)
                if sample.error is not None
            ],
            "duplicates": [
                {
                    "exact": group.exact,
                    "across_splits": group.across,
                    "labels_differ": group.differ,
                    "images": [self.place(number) for number in group.samples],
                }
                for group in self.groups
            ],
            "suspicious": None
            if self.doubts is None
            else [
                {
                    **self.place(doubt.sample),
                    "label_probability": doubt.of_label,
                    "predicted": self.classes[doubt.predicted],
                    "probability": doubt.probability,
                }
                for doubt in self.doubts
            ],
            "problems": self.problems(),
        }

    def place(self, number: int) -> Row:
        """Return where a sample is, and its label."""
        sample = self.samples[number]
        return {
            "split": sample.split,
            "index": sample.index,
            "path": sample.path,
            "label": self.classes[sample.target],
        }

    def problems(self) -> list[str]:
        """Return what is wrong, a line each, the gravest first."""
        found = [
            f"split {split} cannot be opened: {reason}" for split, reason in self.unopened.items()
        ]
        if len(self.classes) < 2:
            found.append("there is one class: nothing to tell apart")
        counts = self.counts()
        for split, of in counts.items():
            empty = [name for name, count in zip(self.classes, of, strict=True) if not count]
            if empty:
                found.append(f"no images in {split} of the class {_listed(empty)}")
        unreadable = sum(sample.error is not None for sample in self.samples)
        if unreadable:
            found.append(f"{_plural(unreadable, 'image')} cannot be read")
        for exact, how in ((True, "identical"), (False, "nearly identical")):
            groups = [group for group in self.groups if group.exact is exact]
            for count, what in (
                (sum(g.across for g in groups), "in more than one split (leakage)"),
                (sum(g.differ for g in groups), "with different labels"),
                (sum(not g.across and not g.differ for g in groups), "within a split and class"),
            ):
                if count:
                    found.append(f"{_plural(count, 'group')} of {how} images {what}")
        for split, of in counts.items():
            most, least = max(of), min(filter(None, of))
            if most >= IMBALANCE * least:
                names = (self.classes[of.index(count)] for count in (most, least))
                found.append(
                    "{}: {!r} has {} images, {!r} has {}".format(
                        split, *(x for pair in zip(names, (most, least), strict=True) for x in pair)
                    )
                )
        if self.doubts:
            found.append(f"{_plural(len(self.doubts), 'label')} that the model contradicts")
        return found


def find_groups(
    samples: Sequence[Sample], progress: Callable[[int], None] = lambda images: None
) -> list[Group]:
    """Find duplicates: those across splits first, then those whose labels differ.

    Images that are the same count as one in the search for those that nearly are.
    """
    seen = list(readable(samples))
    found = [
        ([seen[place][0] for place in places], True)
        for places in exact_groups([look.digest for _, look in seen])
    ]
    repeated = {number for numbers, _ in found for number in numbers[1:]}
    single = [(number, look) for number, look in seen if number not in repeated]
    progress(len(seen) - len(single))
    raw = bytearray(b"".join(look.thumbnail for _, look in single))
    if raw:
        thumbnails = torch.frombuffer(raw, dtype=torch.uint8).view(-1, THUMBNAIL, THUMBNAIL)
        near = near_groups(thumbnails, progress)
        found += [([single[place][0] for place in places], False) for places in near]
    groups = [
        Group(
            tuple(numbers),
            exact,
            across=len({samples[number].split for number in numbers}) > 1,
            differ=len({samples[number].target for number in numbers}) > 1,
        )
        for numbers, exact in found
    ]
    return sorted(groups, key=lambda g: (not g.across, not g.differ, not g.exact, g.samples))


def _range(values: Sequence[int]) -> Row | None:
    if not values:
        return None
    return {"min": min(values), "median": int(median(values)), "max": max(values)}


def _statistics(samples: Sequence[Sample]) -> Row:
    """Return mean and standard deviation of each channel over the first split.

    It is the one to train on, whose statistics inputs are normalised by. Every image counts the
    same. Where some images are grey and others are not, grey ones count for all channels.
    """
    moments = [
        (look.mean, look.square)
        for number, look in readable(samples)
        if samples[number].split == samples[0].split
    ]
    channels = max((len(mean) for mean, _ in moments), default=0)
    if not channels:
        return {"mean": None, "std": None}
    wide = torch.tensor(
        [(m * channels, s * channels) if len(m) < channels else (m, s) for m, s in moments],
        dtype=torch.float64,
    )
    mean, square = wide.mean(0).tolist()
    std = [math.sqrt(max(0.0, s - m * m)) for m, s in zip(mean, square, strict=True)]
    return {"mean": mean, "std": std}


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
