"""Class names; free of torch."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.registry import load_target


def load_labels(target: str | None) -> Sequence[str] | None:
    """The class names that a target names: a sequence, or a function that returns one.

    Raises:
        ZooError: they cannot be loaded.
    """
    if target is None:
        return None
    labels = load_target(target)
    return list(labels() if callable(labels) else labels)
