"""Data sets by name or by path: opening them, their splits, and what identifies their content."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from zoo.errors import DataError, PluginError, UnknownName, UsageError
from zoo.models import create_dataset
from zoo.registry import get_registry, load_target

VALIDATION = ("val", "validation", "test")
"""Splits to evaluate on, the first that there is."""


def open_dataset(
    name_or_path: str,
    *,
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    **kwargs: Any,
) -> Any:
    """Open one split of a data set: what every command calls.

    Args:
        name_or_path: a name of the registry; or a folder (see
            :class:`zoo.data.datasets.folder.Folder`), or a ``.csv`` file (see
            :class:`zoo.data.datasets.csv_file.CsvFile`). A name comes before a path: write
            ``./digits`` for a folder that is called like a data set.
        split: by default the first.
        root: the folder that holds a named data set; by default ``zoo.config.data_dir()/NAME``.
        kwargs: passed to the data set's factory, as ``transform`` or ``download``.

    Returns:
        A map-style data set that keeps the contract of :class:`zoo.Dataset`.

    Raises:
        UsageError: there is no such data set or split.
        DataError: it cannot be had, or it is empty, or a class index is out of range.
        PluginError: it does not keep the contract.
    """
    path = _as_path(name_or_path)
    dataset: Any
    if path is None:
        if root is not None:
            kwargs["root"] = root
        dataset = create_dataset(name_or_path, split=split, **kwargs)
    elif root is not None:
        raise UsageError(f"{name_or_path} is a path: root (--data-dir) is for data sets with names")
    else:
        factory = _factory_of_path(path)
        if unknown := sorted(kwargs.keys() - {"transform"}):
            raise UsageError(f"{name_or_path} is a path, which takes no {', '.join(unknown)}")
        split = factory.find_splits(path)[0] if split is None else split
        dataset = factory(root=path, split=split, **kwargs)
    _check(dataset, name_or_path if split is None else f"{name_or_path}, split {split!r}")
    return dataset


def splits(name_or_path: str, root: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Return the names of a data set's splits; the first is the one to train on.

    Raises:
        UsageError: there is no such data set.
        DataError: it has to be looked at, and cannot be read.
    """
    path = _as_path(name_or_path)
    if path is not None:
        found: tuple[str, ...] = _factory_of_path(path).find_splits(path)
        return found
    spec = get_registry().resolve("datasets", name_or_path).spec
    find = getattr(load_target(spec.factory), "find_splits", None)
    return tuple(find(root)) if find else spec.splits


def validation_split(names: tuple[str, ...]) -> str | None:
    """Return which of a data set's splits to evaluate on; None if there is none."""
    return next((split for split in VALIDATION if split in names), None)


def fingerprint(dataset: Any) -> str:
    """Return a SHA-256 of a data set's classes, labels and images, in hexadecimal.

    Images in memory count by their pixels; files by path (below the folder that they share), size
    and time of modification, since reading them all would take as long as an epoch.

    Raises:
        DataError: a file is gone.
    """
    digest = hashlib.sha256()
    for name in dataset.classes:
        digest.update(f"{name}\0".encode(errors="surrogateescape"))
    digest.update(dataset.targets.numpy().tobytes())
    images = getattr(dataset, "images", None)
    if images is not None:
        digest.update(f"{images.dtype} {tuple(images.shape)}".encode())
        digest.update(images.contiguous().numpy())
        return digest.hexdigest()
    paths = [os.path.abspath(path) for path in dataset.paths]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        line = f"{os.path.relpath(path, shared)}\0{status.st_size} {status.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _as_path(name_or_path: str) -> str | None:
    """Return the path that is meant; None for a name of the registry."""
    try:
        get_registry().resolve("datasets", name_or_path)
    except UnknownName as error:
        path = os.path.expanduser(name_or_path)
        if os.path.exists(path):
            return path
        if name_or_path.startswith((".", "/", "~")) or path.endswith((".csv", os.sep)):
            raise UsageError(f"{name_or_path}: no such file or folder") from error
        raise UnknownName(f"{error}, or name a folder or a .csv file that exists") from error
    return None


def _factory_of_path(path: str) -> Any:
    if os.path.isdir(path):
        from zoo.data.datasets.folder import Folder

        return Folder
    if path.lower().endswith((".csv", ".tsv")):
        from zoo.data.datasets.csv_file import CsvFile

        return CsvFile
    raise UsageError(f"{path} is neither a folder of class folders nor a .csv file")


def _check(dataset: Any, name: str) -> None:
    """Refuse what is empty, mislabelled or outside the contract."""
    missing = [key for key in ("classes", "targets") if not hasattr(dataset, key)]
    if missing or not (hasattr(dataset, "images") or hasattr(dataset, "paths")):
        lacks = " and ".join(missing) or "images or paths"
        raise PluginError(f"the data set {name} has no {lacks}: docs/plugins.md says what it must")
    count, classes = len(dataset), len(dataset.classes)
    if len(dataset.targets) != count:
        raise PluginError(f"{name} has {count} images, and labels for {len(dataset.targets)}")
    if not count:
        raise DataError(f"{name} holds no images")
    wrong = ((dataset.targets < 0) | (dataset.targets >= classes)).nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise DataError(
            f"{name}: image {index} has the label {int(dataset.targets[index])}, beyond the "
            f"{classes} classes (0 to {classes - 1})"
        )
