"""Figures of a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
