"""zoo: an image-classification model zoo for PyTorch in which everything is a plugin.

Importing this package imports neither torch nor any plugin: plugins are found on the first
question about names, and torch is imported when something is created. ``zoo.ops``,
``zoo.nn`` and ``zoo.backends`` load on first access.
"""

from __future__ import annotations

from typing import Any

from zoo._version import __version__
from zoo.errors import (
    AmbiguousName,
    DataError,
    PluginError,
    UnknownName,
    UsageError,
    WeightsError,
    ZooError,
)
from zoo.hookspecs import hookimpl
from zoo.models import (
    create_augmentation,
    create_dataset,
    create_loss,
    create_model,
    is_model,
    list_augmentations,
    list_backends,
    list_datasets,
    list_losses,
    list_models,
    list_pretrained,
)
from zoo.specs import (
    PLUGIN_API,
    Architecture,
    Augmentation,
    Backend,
    Catalog,
    Command,
    Dataset,
    Loss,
    Weights,
)

__all__ = [
    "PLUGIN_API",
    "AmbiguousName",
    "Architecture",
    "Augmentation",
    "Backend",
    "Catalog",
    "Command",
    "DataError",
    "Dataset",
    "Loss",
    "PluginError",
    "UnknownName",
    "UsageError",
    "Weights",
    "WeightsError",
    "ZooError",
    "__version__",
    "create_augmentation",
    "create_dataset",
    "create_loss",
    "create_model",
    "hookimpl",
    "is_model",
    "list_augmentations",
    "list_backends",
    "list_datasets",
    "list_losses",
    "list_models",
    "list_pretrained",
]

_LAZY = ("backends", "nn", "ops")
_LAZY_FUNCTIONS = {"load_optimized": "zoo.compiler", "optimize": "zoo.compiler"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return importlib.import_module(f"zoo.{name}")
    if name in _LAZY_FUNCTIONS:
        import importlib

        return getattr(importlib.import_module(_LAZY_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_FUNCTIONS})
