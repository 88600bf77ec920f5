"""Which outputs of a model are the classes of a data set."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from zoo.data.datasets.words import imagenet_words
from zoo.errors import UsageError

_SHOWN = 3
_WORDNET_ID = re.compile(r"n\d{8}")


def readable(classes: Sequence[str]) -> Sequence[str]:
    """Class names, or their words where all are WordNet ids, as ImageNet's folders have it."""
    if not all(map(_WORDNET_ID.fullmatch, classes)):
        return classes
    words = imagenet_words()
    return [words.get(name, name) for name in classes]


def match_classes(
    model: str, outputs: int, labels: Sequence[str] | None, dataset: str, classes: Sequence[str]
) -> list[int] | None:
    """Return the model's output for each class of the data set; None if they are the same.

    Classes are matched by name, without regard to case, underscores and hyphens; of a name with
    synonyms ("tench, Tinca tinca") any one will do. So a data set may have some of the model's
    classes only, or in another order. Where no name is known to the model and there are as many
    classes as outputs, they are taken to be the same.

    Args:
        model, dataset: names, for messages.
        outputs: how many the model has. labels: their names, if known.

    Raises:
        UsageError: some classes are not the model's, or more than one output has their name.
    """
    places = _places(labels if labels is not None and len(labels) == outputs else ())
    found = [places.get(_plain(name), []) for name in classes]
    matched = sum(map(bool, found))
    if matched == len(classes):
        # Names that several outputs have do no harm where all is in order.
        if len(classes) == outputs and all(i in where for i, where in enumerate(found)):
            return None
        if unsure := [name for name, where in zip(classes, found, strict=True) if len(where) > 1]:
            raise UsageError(
                f"{model} has several classes that are called {_listed(unsure)} as in {dataset}"
            )
        columns = [where[0] for where in found]
        if twice := [classes[columns.index(i)] for i, n in Counter(columns).items() if n > 1]:
            raise UsageError(f"classes of {dataset} are the same to {model}: {_listed(twice)}")
        return columns
    in_place = sum(i in where for i, where in enumerate(found))
    if len(classes) == outputs and in_place == matched:
        if places and not matched:
            warnings.warn(
                f"no class of {dataset} ({_listed(classes)}) has a name that {model} knows "
                f"({_listed(labels or ())}): they are taken to be in the same order",
                stacklevel=2,
            )
        return None
    unknown = [name for name, where in zip(classes, found, strict=True) if not where]
    raise UsageError(
        f"{model} has {outputs} classes and {dataset} {len(classes)}, of which {_listed(unknown)} "
        f"{'is' if len(unknown) == 1 else 'are'} not the model's: name them as the model does, or "
        "use a model of these classes"
    )


def _places(labels: Sequence[str]) -> dict[str, list[int]]:
    """Plain name -> the outputs that have it."""
    places: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        for name in {_plain(label), *map(_plain, label.split(","))}:
            places.setdefault(name, []).append(index)
    return places


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def grouped(
    hierarchy: Any, names: Sequence[str], classes: Sequence[str]
) -> tuple[list[int], list[str]]:
    """Put the classes of a data set into groups.

    Args:
        hierarchy: a :class:`zoo.data.datasets.hierarchy.Hierarchy` of the classes.
        names: its nodes that become groups; what is below none of them stays a class of its own.
            ``"*"`` stands for all nodes right above the classes.

    Returns:
        The group of each class, and the names of the groups.

    Raises:
        UsageError: a node is not known, has no classes below it, or shares one with another.
    """
    nodes: list[str] = []
    for name in names:
        if name == "*":
            nodes += [node for own in hierarchy.classes for node in hierarchy.parents(own)]
        else:
            nodes.append(hierarchy.find(name))
    nodes = list(dict.fromkeys(nodes))
    if empty := [node for node in nodes if not hierarchy.below(node)]:
        raise UsageError(
            f"no class is below {_listed([hierarchy.words.get(node, node) for node in empty])}"
        )
    groups = hierarchy.groups(nodes)
    titles = [hierarchy.words.get(node, node).partition(",")[0] for node in nodes]
    for index, group in enumerate(groups):
        if group < 0:
            groups[index] = len(titles)
            titles.append(classes[index])
    return groups, titles
