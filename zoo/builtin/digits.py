"""scikit-learn's handwritten digits as a data set."""

from __future__ import annotations

import torch

import zoo
from zoo.data.datasets.base import ImagesInMemory, Transform

TEST_SIZE = 360


class Digits(ImagesInMemory):
    """1,797 grey images of 8x8 pixels in ten classes; nothing is downloaded.

    An image is a float32 tensor ``(1, 8, 8)`` in [0, 1] (the file's 17 grey levels divided by
    16), its class an int. The split is fixed and stratified: 1,437 for training, 360 for test.

    Raises:
        zoo.ZooError: scikit-learn is not installed.
    """

    def __init__(self, *, split: str = "train", transform: Transform | None = None) -> None:
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
        images = (torch.from_numpy(data.images).to(torch.float32) / 16).unsqueeze(1)
        targets = torch.from_numpy(data.target).to(torch.int64)
        super().__init__(images[chosen], targets[chosen], tuple("0123456789"), transform)
