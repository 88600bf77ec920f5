"""scikit-learn's handwritten digits as a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset

import zoo

TEST_SIZE = 360


class Digits(Dataset[tuple[Any, int]]):
    """1,797 grey images of 8x8 pixels in ten classes; nothing is downloaded.

    An image is a float32 tensor ``(1, 8, 8)`` in [0, 1] (the file's 17 grey levels divided by
    16), its class an int. The split is fixed and stratified: 1,437 for training, 360 for test.

    Attributes:
        classes: the class names, "0" to "9".
        images: all images of the split, float32 ``(N, 1, 8, 8)``.
        targets: their classes, int64 ``(N,)``.

    Raises:
        zoo.ZooError: scikit-learn is not installed.
    """

    classes = tuple("0123456789")

    def __init__(self, *, split: str = "train", transform: Callable[[Any], Any] | None = None):
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ImportError as error:
            raise zoo.ZooError(
                "zoo/digits needs scikit-learn; install it with: pip install 'zoo-vision[demo]'"
            ) from error
        data = load_digits()
        train, test = train_test_split(
            range(len(data.target)), test_size=TEST_SIZE, stratify=data.target, random_state=0
        )
        chosen = torch.tensor({"train": train, "test": test}[split])
        images = torch.from_numpy(data.images).to(torch.float32) / 16
        self.images = images.unsqueeze(1)[chosen]
        self.targets = torch.from_numpy(data.target).to(torch.int64)[chosen]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        return (self.transform(image) if self.transform else image), int(self.targets[index])
