"""Evaluation of models on a data set: the figures, and what they are made of."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.evaluation.bootstrap import Interval, intervals
from zoo.evaluation.metrics import Bin, PerClass, calibration_error, per_class, reliability
from zoo.evaluation.outcomes import Member, Outcomes, collect
from zoo.evaluation.speed import Speed


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval: in per cent, but for ``nll``, which is in nats.

    The interval is None where there is none (see :func:`zoo.evaluation.bootstrap.intervals`).
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What outcomes come to, over classes of these names.

    Attributes:
        figures: ``top1``, ``top5``, the means over classes ``precision``, ``recall`` and ``f1``,
            ``nll`` and ``ece``.
        f1_intervals: of each class, in [0, 1].
    """

    classes: Sequence[str]
    figures: dict[str, Figure]
    per_class: PerClass
    f1_intervals: list[Interval]
    reliability: list[Bin]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each class, in per cent; None where there is nothing to compute it from."""
        each = self.per_class
        columns = [column.tolist() for column in (each.precision, each.recall, each.f1)]
        return [
            {
                "class": name,
                "images": images,
                "precision": _percent(precision),
                "recall": _percent(recall),
                "f1": _percent(f1),
                "f1_low": _percent(low),
                "f1_high": _percent(high),
            }
            for name, images, precision, recall, f1, (low, high) in zip(
                self.classes, each.images.tolist(), *columns, self.f1_intervals, strict=True
            )
        ]

    def confusions(self) -> list[tuple[int, int, int]]:
        """The cells of the confusion matrix that are not 0: (class, taken for, images)."""
        where = self.per_class.confusion.nonzero()
        counts = self.per_class.confusion[where[:, 0], where[:, 1]]
        return [
            (row, column, n)
            for (row, column), n in zip(where.tolist(), counts.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation.

    Attributes:
        summary: over the classes of the data set. coarse: over groups of them, if asked for.
        outcomes: of each image. by_member: those of each member of an ensemble.
        seconds: that it took to read the images and ask the models.
        speed: of the models alone, if it was measured.
    """

    summary: Summary
    outcomes: Outcomes
    by_member: tuple[Outcomes, ...]
    seconds: float
    coarse: Summary | None = None
    speed: Speed | None = None

    def worst(self, count: int) -> Tensor:
        """Positions in ``outcomes`` of the wrong images, the most confident first."""
        wrong = (~self.outcomes.correct).nonzero()[:, 0]
        order = self.outcomes.probabilities[wrong, 0].argsort(descending=True, stable=True)
        return wrong[order[:count]]

    def document(self, mistakes: int = 100) -> dict[str, Any]:
        """The report as plain values."""
        plain: dict[str, Any] = {
            "figures": _figures(self.summary),
            "speed": asdict(self.speed) if self.speed else None,
            "classes": self.summary.rows(),
            "confusion": self.summary.confusions(),
            "calibration": [asdict(each) for each in self.summary.reliability],
            "mistakes": [self.mistake(position) for position in self.worst(mistakes).tolist()],
        }
        if self.coarse is not None:
            plain["coarse"] = {
                "figures": _figures(self.coarse),
                "classes": self.coarse.rows(),
                "confusion": self.coarse.confusions(),
            }
        return plain

    def mistake(self, position: int) -> dict[str, Any]:
        """What was said of an image; probabilities are in [0, 1]."""
        outcomes, classes = self.outcomes, self.summary.classes
        return {
            "index": int(outcomes.indices[position]),
            "class": classes[int(outcomes.targets[position])],
            "predicted": classes[int(outcomes.predicted[position])],
            "probability": float(outcomes.probabilities[position, 0]),
            "probability_of_class": float(outcomes.of_target[position]),
        }


def evaluate_model(
    model: nn.Module,
    loader: Iterable[Any],
    classes: Sequence[str],
    *,
    device: str | torch.device = "cpu",
) -> Report:
    """Evaluate one model, in eval mode, whose outputs are the classes in their order.

    Args:
        model: maps float32 ``(N, C, H, W)`` to logits ``(N, len(classes))``.
        loader: yields batches with ``images``, ``targets`` and ``indices``.

    Raises:
        UsageError: the model has other outputs than classes.
        ZooError: there are no images, or the model says nothing of one.
    """
    return evaluate([Member("the model", model.eval(), loader)], classes, device=device)


def evaluate(
    members: Sequence[Member],
    classes: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    groups: Tensor | None = None,
    group_names: Sequence[str] = (),
    progress: Callable[[int], None] = lambda images: None,
) -> Report:
    """Evaluate models whose probabilities are averaged (see :class:`Member`).

    Args:
        groups: int64 ``(len(classes),)``: which of ``group_names`` each class is of; the report
            then has figures over them too.
    """
    begun = time.perf_counter()
    found = collect(members, len(classes), device=device, groups=groups, progress=progress)
    seconds = time.perf_counter() - begun
    return Report(
        summarize(found.together, classes),
        found.together,
        found.members,
        seconds,
        summarize(found.by_group, group_names) if found.by_group is not None else None,
    )


def summarize(outcomes: Outcomes, classes: Sequence[str]) -> Summary:
    """Compute figures and their intervals."""
    each = per_class(outcomes.predicted, outcomes.targets, len(classes))
    confidence = outcomes.probabilities[:, 0]
    of = intervals(outcomes, len(classes))
    values = {
        "top1": float(outcomes.correct.double().mean()),
        "top5": float(outcomes.among_best.double().mean()),
        "precision": each.macro("precision"),
        "recall": each.macro("recall"),
        "f1": each.macro("f1"),
        "nll": float(outcomes.nll.double().mean()),
        "ece": calibration_error(confidence, outcomes.correct),
    }
    figures = {}
    for name, value in values.items():
        scale = 1 if name == "nll" else 100
        low, high = of.figures.get(name, (None, None))
        figures[name] = Figure(
            value * scale,
            None if low is None else low * scale,
            None if high is None else high * scale,
        )
    return Summary(classes, figures, each, of.f1, reliability(confidence, outcomes.correct))


def _figures(summary: Summary) -> dict[str, dict[str, float | None]]:
    return {name: asdict(figure) for name, figure in summary.figures.items()}


def _percent(value: float) -> float | None:
    return None if math.isnan(value) else value * 100
