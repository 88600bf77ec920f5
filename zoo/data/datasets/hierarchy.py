"""What lies above the classes of a data set: for scores at a coarser level, such as "dog"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.errors import UsageError
from zoo.names import closest


class Hierarchy:
    """A directed graph without circles whose lowest nodes are classes, as WordNet's nouns are.

    A node has an id and words, ``"n02084071"`` and ``"dog, domestic dog, Canis familiaris"``; the
    methods take either the id, or all words, or one of them.

    Args:
        classes: the node's id of each class, by index.
        words: node id -> its words, separated by commas.
        parents: node id -> the ids of the nodes right above it; none for the topmost.
    """

    def __init__(
        self,
        classes: Sequence[str],
        words: Mapping[str, str],
        parents: Mapping[str, Sequence[str]],
    ) -> None:
        self.classes = tuple(classes)
        self.words = dict(words)
        self._parents = {node: tuple(above) for node, above in parents.items()}
        self._ids: dict[str, list[str]] = {}
        for node, names in self.words.items():
            for name in {names, *(part.strip() for part in names.split(","))}:
                self._ids.setdefault(name, []).append(node)
        self._below: dict[str, list[int]] = {}
        for index, node in enumerate(self.classes):
            for above in self._line(node):
                self._below.setdefault(above, []).append(index)

    def find(self, name: str) -> str:
        """Return the id of a node.

        Raises:
            UsageError: no node is called so, or several.
        """
        if name in self.words:
            return name
        nodes = self._ids.get(name, [])
        if len(nodes) == 1:
            return nodes[0]
        if nodes:
            means = "; ".join(f"{node} ({self.words[node]})" for node in nodes)
            raise UsageError(f"{name!r} may be any of {means}: give the id")
        near = closest(name, self._ids)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UsageError(f"there is nothing called {name!r} above the classes{hint}")

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the ids of the nodes right above a node."""
        return self._parents.get(self.find(name), ())

    def below(self, name: str) -> tuple[int, ...]:
        """Return the indices of the classes that a node is, or stands above, in order."""
        return tuple(self._below.get(self.find(name), ()))

    def groups(self, names: Sequence[str]) -> list[int]:
        """Return for each class which of the named nodes it belongs to, -1 for none of them.

        Raises:
            UsageError: a name is not known, or a class belongs to two of them.
        """
        group = [-1] * len(self.classes)
        for number, name in enumerate(names):
            for index in self.below(name):
                if group[index] >= 0:
                    both = f"{names[group[index]]} and {name}"
                    raise UsageError(f"{self.classes[index]} belongs to {both}: leave one out")
                group[index] = number
        return group

    def _line(self, node: str) -> set[str]:
        """Return a node and all above it."""
        line: set[str] = set()
        waiting = [node]
        while waiting:
            if (current := waiting.pop()) not in line:
                line.add(current)
                waiting += self._parents.get(current, ())
        return line
