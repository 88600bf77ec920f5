"""Entry points and versions of installed distributions, read without ``importlib.metadata``.

Importing ``importlib.metadata`` takes longer than all the rest of ``zoo list-models``: it
brings in the email parser, zipfile and more. For folders on ``sys.path`` this module reads
the same files by the same rules; where something else provides distributions (zip files,
eggs, finders of frozen programs), it asks ``importlib.metadata``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

_SEPARATORS = re.compile(r"[-_.]+")


class EntryPoint(NamedTuple):
    """A line of some distribution's ``entry_points.txt``; the distribution may be unknown."""

    name: str
    value: str
    distribution: str | None
    version: str | None


def normalized(name: str) -> str:
    """Return a distribution's name in the form in which equal names are equal."""
    return _SEPARATORS.sub("-", name).lower()


def entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, each distribution counted once, as Python finds it."""
    folders = _metadata_folders()
    if folders is None:
        return _asked_for_entry_points(group)
    points = []
    for folder in folders.values():
        text = _read(os.path.join(folder, "entry_points.txt"))
        if group not in text:
            continue
        section = None
        name = version = None
        for line in map(str.strip, text.splitlines()):
            if line.startswith("[") and line.endswith("]"):
                section = line.strip("[]")
            elif section == group and "=" in line and not line.startswith("#"):
                if name is None:
                    name, version = _name_and_version(folder)
                left, _, right = line.partition("=")
                points.append(EntryPoint(left.strip(), right.strip(), name, version))
    return points


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """Return the versions of distributions; ``None`` for those that are not installed."""
    names = tuple(names)
    folders = _metadata_folders() if names else {}
    if folders is None:
        return {name: _asked_for_version(name) for name in names}
    found = {}
    for name in names:
        folder = folders.get(normalized(name))
        found[name] = None if folder is None else _name_and_version(folder)[1]
    return found


def _metadata_folders() -> dict[str, str] | None:
    """Return normalised name -> metadata folder, ``None`` if there may be more than folders.

    Of two with one name the first on ``sys.path`` counts: the one that would be imported.
    """
    for finder in sys.meta_path:
        if hasattr(finder, "find_distributions") and finder.__module__ != _PATH_FINDER:
            return None
    folders: dict[str, str] = {}
    for path in sys.path:
        if path.rstrip("/\\").endswith(".egg"):
            return None
        try:
            children = os.listdir(path or ".")
        except NotADirectoryError:
            return None
        except OSError:
            continue
        for child in children:
            stem, extension = os.path.splitext(child)
            if extension.lower() in (".dist-info", ".egg-info"):
                folders.setdefault(
                    normalized(stem.partition("-")[0]), os.path.join(path or ".", child)
                )
    return folders


_PATH_FINDER = "_frozen_importlib_external"


def _name_and_version(folder: str) -> tuple[str | None, str | None]:
    """Return what the head of a metadata file says."""
    # An egg-info may be the metadata file itself.
    for path in (os.path.join(folder, "METADATA"), os.path.join(folder, "PKG-INFO"), folder):
        if not (text := _read(path)):
            continue
        head: dict[str, str] = {}
        for line in text.splitlines():
            if not line.strip():
                break
            key, colon, value = line.partition(":")
            if colon:
                head.setdefault(key.strip().lower(), value.strip())
        return head.get("name") or None, head.get("version") or None
    return None, None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _asked_for_entry_points(group: str) -> list[EntryPoint]:
    from importlib import metadata

    points = []
    for point in metadata.entry_points(group=group):
        name = version = None
        try:
            if point.dist is not None:
                name, version = point.dist.name, point.dist.version
        except Exception:  # damaged metadata must not hide the plugin
            pass
        points.append(EntryPoint(point.name, point.value, name, version))
    return points


def _asked_for_version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
