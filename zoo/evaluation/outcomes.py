"""What models say of the images of a data set, kept by image: all figures come from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UsageError, ZooError

_KEPT = 5  # most probable classes kept by image


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What was said of N images, on the CPU.

    Attributes:
        indices: places of the images in the data set, int64 ``(N,)``.
        targets: their classes, int64 ``(N,)``.
        best: the most probable classes, best first, int64 ``(N, up to 5)``.
        probabilities: theirs, float32 ``(N, up to 5)``.
        of_target: probability of the image's class, float32 ``(N,)``.
        nll: its negative logarithm in nats, float32 ``(N,)``.
    """

    indices: Tensor
    targets: Tensor
    best: Tensor
    probabilities: Tensor
    of_target: Tensor
    nll: Tensor

    @property
    def predicted(self) -> Tensor:
        """The most probable class of each image, int64 ``(N,)``."""
        return self.best[:, 0]

    @property
    def correct(self) -> Tensor:
        """Whether that is the image's class, bool ``(N,)``."""
        return self.predicted == self.targets

    @property
    def among_best(self) -> Tensor:
        """Whether the image's class is among the five most probable, bool ``(N,)``."""
        return (self.best == self.targets[:, None]).any(1)


@dataclass(frozen=True, slots=True)
class Member:
    """A model that is asked, alone or with others.

    Attributes:
        name: for messages and reports.
        model: maps float32 ``(N, C, H, W)`` to logits.
        loader: yields batches with ``images``, ``targets`` and ``indices``, prepared for it.
        columns: outputs that are the classes of the data set, in their order; None: all, as is.
    """

    name: str
    model: nn.Module
    loader: Iterable[Any]
    columns: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """Outcomes of the average of the members, of each member, and of the average by groups."""

    together: Outcomes
    members: tuple[Outcomes, ...]
    by_group: Outcomes | None


def collect(
    members: Sequence[Member],
    classes: int,
    *,
    device: str | torch.device = "cpu",
    groups: Tensor | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> Collected:
    """Ask models about every image.

    Args:
        members: their probabilities are averaged. Their loaders must give the same images.
        classes: number of classes.
        groups: int64 ``(classes,)``: which group each class is of. The probability of a group is
            that of its classes together.
        progress: called with the number of images done since the last call.

    Raises:
        UsageError: a model has other outputs than classes.
        ZooError: there are no images, a model says nothing of one (NaN), or the loaders differ.
    """
    together: list[Outcomes] = []
    by_group: list[Outcomes] = []
    by_member: list[list[Outcomes]] = [[] for _ in members]
    for batches in zip(*(member.loader for member in members), strict=True):
        first = batches[0]
        if any(not torch.equal(batch.indices, first.indices) for batch in batches[1:]):
            raise ZooError("the models were given different images: some cannot be read by all")
        if not len(first.indices):
            continue
        indices, targets = first.indices.cpu(), first.targets.cpu()
        each = [
            _probabilities(member, batch, classes, device)
            for member, batch in zip(members, batches, strict=True)
        ]
        for part, probabilities in zip(by_member, each, strict=True):
            part.append(_outcomes(probabilities, targets, indices))
        mean = torch.stack(each).mean(0)
        together.append(_outcomes(mean, targets, indices))
        if groups is not None:
            summed = mean.new_zeros(len(mean), int(groups.max()) + 1).index_add_(1, groups, mean)
            by_group.append(_outcomes(summed, groups[targets], indices))
        progress(len(indices))
    if not together:
        raise ZooError("there are no images to evaluate on: none could be read")
    return Collected(
        _joined(together),
        tuple(map(_joined, by_member)),
        _joined(by_group) if by_group else None,
    )


@torch.inference_mode()
def _probabilities(member: Member, batch: Any, classes: int, device: str | torch.device) -> Tensor:
    """Probabilities of the data set's classes, float64 ``(N, classes)`` on the CPU."""
    images = batch.images.to(device, memory_format=torch.channels_last)
    logits: Tensor = member.model(images).cpu().double()  # not all devices have float64
    if member.columns is not None:
        logits = logits[:, member.columns]
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise UsageError(
            f"{member.name} gives outputs of {list(logits.shape[1:])}, and there are {classes} "
            "classes"
        )
    probabilities = logits.softmax(1)
    if probabilities.isnan().any():
        where = int(batch.indices[probabilities.isnan().any(1).nonzero()[0, 0]])
        raise ZooError(f"{member.name} gives NaN for image {where}: its weights are broken")
    return probabilities


def _outcomes(probabilities: Tensor, targets: Tensor, indices: Tensor) -> Outcomes:
    values, best = probabilities.topk(min(_KEPT, probabilities.shape[1]), dim=1)
    of_target = probabilities.gather(1, targets[:, None])[:, 0]
    # A probability that float64 cannot tell from 0 would make the mean infinite.
    nll = -of_target.clamp(min=torch.finfo(torch.float64).tiny).log()
    return Outcomes(indices, targets, best, values.float(), of_target.float(), nll.float())


def _joined(parts: Sequence[Outcomes]) -> Outcomes:
    return Outcomes(
        *(torch.cat([getattr(part, name) for part in parts]) for name in Outcomes.__slots__)
    )
