"""Class names; free of torch."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.registry import load_target


def load_labels(target: str | Sequence[str] | None) -> Sequence[str] | None:
    """The class names that a target names: a sequence, or a function that returns one.

    A sequence is itself: those of a checkpoint are written in the file.

    Raises:
        ZooError: they cannot be loaded.
    """
    if target is None or not isinstance(target, str):
        return target
    labels = load_target(target)
    return list(labels() if callable(labels) else labels)
