"""Labels that a model contradicts with confidence: they may be wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.evaluation.outcomes import Outcomes


def contradicted(outcomes: Outcomes, classes: int) -> Tensor:
    """Return the places in ``outcomes`` of the labels in doubt, the most doubtful first.

    A label is in doubt where the model finds another class the most probable, and at least as
    probable as it finds that class on the average over the images that are labelled so. This is the
    rule of confident learning (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068); the order
    is by the probability of the label. A model that was trained on these very labels has learnt the
    wrong ones too: ask one that has not.

    Returns:
        int64, of at most N places.
    """
    total = torch.bincount(outcomes.targets, outcomes.of_target.double(), minlength=classes)
    images = torch.bincount(outcomes.targets, minlength=classes)
    # Of a class without images nothing is known: the average over all stands in.
    usual = torch.where(images > 0, total / images.clamp(min=1), outcomes.of_target.double().mean())
    confident = outcomes.probabilities[:, 0].double() >= usual[outcomes.predicted]
    places = (confident & ~outcomes.correct).nonzero()[:, 0]
    return places[outcomes.of_target[places].argsort(stable=True)]
