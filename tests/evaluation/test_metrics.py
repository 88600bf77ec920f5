"""Figures of classifiers beside scikit-learn's, and beside what is counted by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.evaluation.metrics import accuracy

sklearn = pytest.importorskip("sklearn.metrics")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 2**31))
def test_accuracy(images: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=generator)
    targets = torch.randint(classes, (images,), generator=generator)
    top1, top3, top5 = accuracy(logits, targets, (1, 3, 5)).tolist()
    assert top1 == int((logits.argmax(1) == targets).sum())
    by_sklearn = (
        sklearn.top_k_accuracy_score(
            targets, logits, k=min(3, classes - 1), labels=range(classes), normalize=False
        )
        if classes > 3
        else images
    )
    # scikit-learn takes two classes for one score.
    assert top3 == int(by_sklearn)
    assert top5 >= top3 >= top1


def test_accuracy_of_nothing() -> None:
    assert accuracy(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)).tolist() == [0, 0]
