"""What a prediction is; free of torch, so that failures can be told without it."""

from __future__ import annotations

from dataclasses import dataclass


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
