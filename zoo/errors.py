"""Errors that a user can mend. Each message is one line and names the remedy."""

from __future__ import annotations


class ZooError(Exception):
    """Base of all errors that zoo raises on purpose. The CLI prints it and exits with 1."""

    exit_code = 1


class UsageError(ZooError):
    """The request itself is wrong; the CLI exits with 2."""

    exit_code = 2


class UnknownName(UsageError, LookupError):
    """No plugin offers that name."""


class AmbiguousName(UsageError, LookupError):
    """Several plugins offer that bare name, and no preference decides."""


class PluginError(ZooError):
    """A plugin's code cannot be imported or breaks its contract.

    A plugin that fails to load is reported instead, but for ``ZOO_STRICT_PLUGINS=1``.
    """


class WeightsError(ZooError):
    """Weights are missing, damaged, or do not fit the model."""


class DataError(ZooError):
    """Images or labels of a data set are missing, damaged, or not laid out as they should be."""
