"""Packages that only parts of zoo need."""

from __future__ import annotations

from importlib.util import find_spec

from zoo.errors import UsageError


def need(*packages: str, what: str, extra: str = "evaluation") -> None:
    """Raise UsageError unless packages, which an extra of zoo brings, are installed."""
    absent = [package for package in packages if find_spec(package) is None]
    if absent:
        raise UsageError(
            f"{what} needs {' and '.join(absent)}: run pip install 'zoo-vision[{extra}]'"
        )
