"""The hooks. A plugin is a module that implements some of them with ``@zoo.hookimpl``.

Hooks return data and are called one implementation at a time (see docs/plugins.md).
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from zoo.specs import Architecture, Augmentation, Backend, Catalog, Command, Dataset, Loss

hookspec = pluggy.HookspecMarker("zoo")
hookimpl = pluggy.HookimplMarker("zoo")


@hookspec
def zoo_architectures() -> Iterable[Architecture | Catalog]:  # type: ignore[empty-body]
    """Architectures, and catalogs of them."""


@hookspec
def zoo_augmentations() -> Iterable[Augmentation]:  # type: ignore[empty-body]
    """Augmentations of training images."""


@hookspec
def zoo_losses() -> Iterable[Loss]:  # type: ignore[empty-body]
    """Training criteria."""


@hookspec
def zoo_datasets() -> Iterable[Dataset]:  # type: ignore[empty-body]
    """Data sets."""


@hookspec
def zoo_backends() -> Iterable[Backend]:  # type: ignore[empty-body]
    """Engines that run networks."""


@hookspec
def zoo_commands() -> Iterable[Command]:  # type: ignore[empty-body]
    """Subcommands of ``zoo``."""
