"""Labels that a model contradicts."""

from __future__ import annotations

import torch
from torch import nn

from zoo.data.loader import Batch
from zoo.evaluation.doubts import contradicted
from zoo.evaluation.outcomes import Member, Outcomes, collect


def outcomes(probabilities: list[list[float]], targets: list[int]) -> Outcomes:
    logits = torch.tensor(probabilities).log().view(len(targets), -1, 1, 1)
    batch = Batch(logits, torch.tensor(targets), torch.arange(len(targets)))
    return collect([Member("m", nn.Flatten(), [batch])], logits.shape[1]).together


def test_confident_contradictions_by_the_labels_probability() -> None:
    said = outcomes(
        [
            [0.9, 0.1],  # 0: right
            [0.7, 0.3],  # 1: right; class 0 is found with 0.8 on the average of its images
            [0.95, 0.05],  # 2: labelled 1, and more surely 0 than images of class 0 usually are
            [0.6, 0.4],  # 3: labelled 1, but the model is not sure enough
            [0.1, 0.9],  # 4: right
            [0.85, 0.15],  # 5: labelled 1
        ],
        [0, 0, 1, 1, 1, 1],
    )
    assert contradicted(said, 2).tolist() == [2, 5]


def test_nothing_is_in_doubt_where_all_is_right() -> None:
    assert contradicted(outcomes([[0.9, 0.1], [0.2, 0.8]], [0, 1]), 2).tolist() == []


def test_a_class_without_images_counts_by_the_average() -> None:
    said = outcomes([[0.8, 0.1, 0.1], [0.05, 0.05, 0.9], [0.3, 0.3, 0.4]], [0, 1, 1])
    assert contradicted(said, 3).tolist() == [1, 2]  # 0.9 and 0.4 against (0.8 + 0.05 + 0.3) / 3
