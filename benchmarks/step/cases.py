"""What is trained, how, and what is aimed at. Imports no torch: Keras' process reads it too."""

from __future__ import annotations

from dataclasses import dataclass

RIVALS = ("eager", "compile", "keras", "keras-8")
BUILTINS = ("eager", "compile")
"""Those of PyTorch."""
ENGINES = {"keras": 1, "keras-8": 8}
"""Those of Keras, and how many steps they take without returning to Python."""

LEARNING_RATE, EPSILON = 1e-3, 1e-7
"""Adam's; the epsilon is Keras' default."""

PADDING = 4
MEAN, STD = 0.5, 0.25
"""Images are shifted by up to so many pixels, mirrored or not, each by itself, and normalised."""

GATE_STEPS = 3
TOLERANCE = 5e-3
"""Relative, of the loss of each of the first steps, on the same batches from the same weights."""


@dataclass(frozen=True, slots=True)
class Case:
    """A network and how it is trained.

    Attributes:
        model: its name in the registry. side: of its images. classes: that it tells apart.
        images: how many an epoch has.
        aims: times the images per second of the best of PyTorch, and of Keras.
    """

    model: str
    batch: int
    threads: int
    aims: tuple[float | None, float | None]
    side: int = 32
    classes: int = 10
    images: int = 6400

    @property
    def short(self) -> bool:
        """Whether a step is so short that Python's part of it shows."""
        return self.model == "cifar/small_cnn"

    def __str__(self) -> str:
        name = self.model.rpartition("/")[2]
        return f"{name}, batch {self.batch}, {self.threads} thread" + "s" * (self.threads > 1)


CASES = (
    Case("cifar/small_cnn", 32, 1, (1.6, 1.8)),
    Case("cifar/small_cnn", 32, 2, (1.6, 1.8)),
    Case("cifar/small_cnn", 128, 1, (1.6, 1.4)),
    Case("cifar/small_cnn", 128, 2, (1.6, 1.4)),
    Case("cifar/resnet20", 128, 2, (1.3, 1.6)),
    Case("timm/resnet18", 16, 2, (1.25, None), side=224, classes=1000, images=320),
)
