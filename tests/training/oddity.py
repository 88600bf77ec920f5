"""A plugin whose losses interrupt, explode or cannot be used, and whose models misbehave."""

from __future__ import annotations

import os
import signal

import torch
from torch import nn
from torch.nn import functional as F

import zoo
from zoo.builtin.digits import Digits


@zoo.hookimpl
def zoo_losses():
    return [
        zoo.Loss("interrupting", "oddity:Interrupting"),
        zoo.Loss("soft_interrupting", "oddity:Interrupting", target=("index", "soft")),
        zoo.Loss("exploding", "oddity:Exploding"),
        zoo.Loss("index_only", "torch.nn:NLLLoss"),
        zoo.Loss("many", "torch.nn:MultiLabelSoftMarginLoss", target="multihot"),
        zoo.Loss("metric", "torch.nn:CosineEmbeddingLoss", target="embedding", needs_features=True),
        zoo.Loss("rows", "oddity:rows"),
    ]


@zoo.hookimpl
def zoo_architectures():
    return [
        zoo.Architecture("restless", "oddity:Restless", input_size=(1, 8, 8), capabilities=()),
        zoo.Architecture("features", "oddity:features", input_size=(1, 8, 8)),
        zoo.Architecture("tail", "oddity:tail", input_size=(1, 8, 8)),
    ]


@zoo.hookimpl
def zoo_datasets():
    return [zoo.Dataset("holed", "oddity:Holed", num_classes=10, input_size=(1, 8, 8))]


class Holed(Digits):
    """Digits, one of which is not all numbers."""

    def __init__(self, *, split="train", transform=None) -> None:
        super().__init__(split=split, transform=transform)
        self.images[5, 0, 3, 3] = float("nan")


class Interrupting(nn.Module):
    """Cross-entropy that sends this process a signal at its n-th call."""

    def __init__(self, after: int, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.left, self.number = after, number

    def forward(self, logits, target):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return F.cross_entropy(logits, target)


class Exploding(nn.Module):
    """Cross-entropy that is not a number from its n-th call on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def forward(self, logits, target):
        self.left -= 1
        return F.cross_entropy(logits, target) * (1 if self.left > 0 else float("nan"))


def rows():
    return nn.CrossEntropyLoss(reduction="none")


class Restless(nn.Module):
    """Dropout, BatchNorm and layers of all kinds of state."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU())
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(16 * 4, num_classes)

    def group_matcher(self, coarse=False):
        return {"stem": "^stem", "blocks": "^block"}

    def forward(self, images):
        return self.fc(self.drop(torch.flatten(self.block(self.stem(images)), 1)))


def features(*, num_classes: int = 10, in_chans: int = 1):
    return nn.Flatten()


def tail(*, num_classes: int = 10, in_chans: int = 1):
    """A network that does not end in its classifier."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * 64, num_classes), nn.Tanh())
