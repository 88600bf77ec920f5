"""Names: their order, their patterns and what a mistyped one was meant to be."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable

PLUGIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
SPEC_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")

# At most 18 digits at once: int() refuses thousands, and a name may hold anything.
_DIGITS = re.compile(r"([0-9]{1,18})")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key in which ``resnet18`` comes before ``resnet101``.

    Numbers compare by value, letters without regard to case; the name itself breaks ties,
    so that the order is total.
    """
    parts: list[str | int] = list(_DIGITS.split(name.lower()))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def matcher(patterns: str | Iterable[str]) -> Callable[[str], bool]:
    """Return a predicate that is true of names which match one of the shell patterns."""
    if isinstance(patterns, str):
        patterns = (patterns,)
    alternatives = "|".join(fnmatch.translate(pattern) for pattern in patterns)
    if not alternatives:
        return lambda name: False
    match = re.compile(alternatives).match
    return lambda name: match(name) is not None


def closest(
    name: str, candidates: Iterable[str], limit: int = 3, likeness: float = 0.6
) -> list[str]:
    """Return the candidates that are at least so much like ``name``, the closest first."""
    from difflib import get_close_matches

    return get_close_matches(name, candidates, n=limit, cutoff=likeness)


def one_line(text: object, limit: int = 400) -> str:
    """Return text with its white space, line ends included, folded into single blanks."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
