"""What results are; free of torch, so that failures can be told without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class and its probability in [0, 1]."""

    label: str
    class_index: int
    probability: float


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The most probable classes of an image, best first, or why there are none."""

    image: str
    predictions: tuple[Prediction, ...] = ()
    error: str | None = None


FIGURES = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "precision": "precision, mean of classes",
    "recall": "recall, mean of classes",
    "f1": "F1, mean of classes",
    "nll": "negative log-likelihood",
    "ece": "expected calibration error",
}
"""Names of an evaluation's figures, as people read them."""

RESULT_COLUMNS = (
    *("model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct"),
    "interpolation",
)
"""The columns of timm's tables of results."""


def result_row(model: Mapping[str, Any], top1: float, top5: float) -> dict[str, Any]:
    """A row of such a table: accuracies in per cent, parameters in millions.

    ``model`` has the other columns, as far as they are known, the parameters as a number.
    """
    row: dict[str, Any] = {**dict.fromkeys(RESULT_COLUMNS), **model}
    row["param_count"] = f"{row['param_count'] / 1e6:.2f}"
    if row["crop_pct"] is not None:
        row["crop_pct"] = f"{row['crop_pct']:.3f}"
    for name, value in (("top1", top1), ("top5", top5)):
        row |= {name: f"{value:.3f}", f"{name}_err": f"{100 - value:.3f}"}
    return row
