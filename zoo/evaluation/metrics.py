"""Figures of a classifier. Shares are in [0, 1]; what is printed is in per cent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15
"""Bins of equal width in which confidence is compared with accuracy (Guo et al. 2017)."""


def accuracy(logits: Tensor, targets: Tensor, topk: Sequence[int] = (1, 5)) -> Tensor:
    """Count the images whose class is among the k with the largest logits, for each k.

    Args:
        logits: ``(N, classes)``; N may be 0.
        targets: class indices, int64 ``(N,)``.

    Returns:
        int64 ``(len(topk),)``, on the device of the logits; with no more than k classes all count.
    """
    best = logits.topk(min(max(topk), logits.shape[1]), dim=1).indices
    hits = best == targets[:, None]
    return torch.stack([hits[:, :k].sum() for k in topk])


@dataclass(frozen=True, slots=True)
class PerClass:
    """Figures of each class, float64 ``(classes,)``.

    Attributes:
        images: of the class, int64. A class without any has no recall, and no F1: they are NaN.
        precision: NaN where no image was taken for the class.
        recall, f1: F1 is 0 where nothing was right.
        confusion: int64 ``(classes, classes)``: row the class, column what it was taken for.
    """

    images: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor
    confusion: Tensor

    def macro(self, name: str) -> float:
        """The mean of ``precision``, ``recall`` or ``f1`` over the classes that have images.

        The precision of a class for which nothing was taken counts as 0.
        """
        values: Tensor = getattr(self, name)[self.images > 0]
        return float(values.nan_to_num(0.0).mean())


def per_class(predicted: Tensor, targets: Tensor, classes: int) -> PerClass:
    """Precision, recall, F1 and the confusion matrix; both arguments are int64 ``(N,)``, N > 0."""
    from torchmetrics.functional.classification import (
        multiclass_confusion_matrix,
        multiclass_f1_score,
        multiclass_precision,
        multiclass_recall,
    )

    confusion = multiclass_confusion_matrix(predicted, targets, classes)
    images, taken = confusion.sum(1), confusion.sum(0)
    nan = torch.tensor(torch.nan, dtype=torch.float64)

    def each(metric: object) -> Tensor:
        values: Tensor = metric(predicted, targets, classes, average=None)  # type: ignore[operator]
        return values.double()

    return PerClass(
        images,
        torch.where(taken > 0, each(multiclass_precision), nan),
        torch.where(images > 0, each(multiclass_recall), nan),
        torch.where(images > 0, each(multiclass_f1_score), nan),
        confusion,
    )


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart in :data:`BINS` bins.

    Args:
        confidence: probability of the class that was chosen, ``(N,)``.
        correct: whether it was right, bool ``(N,)``.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    inside = confidence.double().clamp(max=1 - 1e-12)  # 1 would have a bin to itself
    error = binary_calibration_error(inside, correct.long(), BINS, norm="l1")
    return float(error)


@dataclass(frozen=True, slots=True)
class Bin:
    """Images whose confidence lies within ``low`` and ``high``; means are None without any."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


def reliability(confidence: Tensor, correct: Tensor) -> list[Bin]:
    """Confidence and accuracy in :data:`BINS` bins; the arguments are as above."""
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    place = bin_of(confidence)
    bins = []
    for number in range(BINS):
        inside = place == number
        images = int(inside.sum())
        means = [
            float(values[inside].double().mean()) if images else None
            for values in (confidence, correct)
        ]
        bins.append(Bin(float(edges[number]), float(edges[number + 1]), images, *means))
    return bins


def bin_of(confidence: Tensor) -> Tensor:
    """The bin of each confidence, int64 ``(N,)``; the last one includes 1."""
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    return torch.bucketize(confidence.double(), edges[1:-1], right=True)
