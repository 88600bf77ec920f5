"""Figures of classifiers beside scikit-learn's, and beside what is counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zoo.evaluation.metrics import BINS, accuracy, calibration_error, per_class, reliability

sklearn = pytest.importorskip("sklearn.metrics")
pytest.importorskip("torchmetrics")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(4, 9), st.integers(0, 2**31))
def test_accuracy(images: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=generator)
    targets = torch.randint(classes, (images,), generator=generator)
    top1, top3, top5 = accuracy(logits, targets, (1, 3, 5)).tolist()
    assert top1 == int((logits.argmax(1) == targets).sum())
    assert top3 == sklearn.top_k_accuracy_score(
        targets, logits, k=3, labels=range(classes), normalize=False
    )
    assert top5 >= top3 >= top1
    if classes <= 5:
        assert top5 == images


def test_accuracy_of_nothing() -> None:
    assert accuracy(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)).tolist() == [0, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.data())
def test_per_class_as_scikit_learn(classes: int, data: st.DataObject) -> None:
    labels = st.lists(st.integers(0, classes - 1), min_size=1, max_size=30)
    targets = data.draw(labels)
    size = len(targets)
    predicted = data.draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
    found = per_class(torch.tensor(predicted), torch.tensor(targets), classes)
    assert np.array_equal(
        found.confusion, sklearn.confusion_matrix(targets, predicted, labels=range(classes))
    )
    precision, recall, f1, images = sklearn.precision_recall_fscore_support(
        targets, predicted, labels=range(classes), zero_division=0
    )
    assert found.images.tolist() == images.tolist()
    for ours, theirs in ((found.precision, precision), (found.recall, recall), (found.f1, f1)):
        np.testing.assert_allclose(ours.nan_to_num(0.0), theirs, rtol=1e-6)
    # What there is nothing to compute from is not 0.
    assert found.recall.isnan().tolist() == [n == 0 for n in images]
    assert found.precision.isnan().tolist() == [c not in predicted for c in range(classes)]
    present = images > 0
    assert found.macro("f1") == pytest.approx(f1[present].mean())
    assert found.macro("precision") == pytest.approx(precision[present].mean())
    assert found.macro("recall") == pytest.approx(
        sklearn.recall_score(
            targets, predicted, labels=np.flatnonzero(present), average="macro", zero_division=0
        )
    )


def test_calibration_error_by_hand() -> None:
    # In three bins: 2 images at 0.35 of which 1 is right, 1 wrong at 0.62, 1 right at 1.
    confidence = torch.tensor([0.34, 0.36, 0.62, 1.0])
    correct = torch.tensor([True, False, False, True])
    expected = (2 * abs(0.5 - 0.35) + abs(0 - 0.62) + abs(1 - 1)) / 4
    assert calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_that_of_the_bins(images: list[tuple[float, bool]]) -> None:
    confidence = torch.tensor([value for value, _ in images])
    # Bins meet at numbers that float32 does not have; near them either bin is right.
    near = (confidence.double() * BINS - (confidence.double() * BINS).round()).abs() < 1e-5
    assume(not (near & (confidence > 0) & (confidence < 1)).any())
    correct = torch.tensor([right for _, right in images])
    bins = reliability(confidence, correct)
    assert sum(each.images for each in bins) == len(images)
    gaps = [
        each.images * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    ]
    assert calibration_error(confidence, correct) == pytest.approx(
        sum(gaps) / len(images), abs=1e-6
    )
    for each in bins:
        if each.confidence is not None:
            assert each.low - 1e-6 <= each.confidence <= each.high + 1e-6
