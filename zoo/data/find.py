"""Finding image files from what a user names: files, folders, glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.names import natural_key

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Lower-case suffixes by which folders are searched; a file named outright may have any."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file to open, or a name that led to none and why."""

    path: str
    error: str | None = None


def find_images(names: Iterable[str]) -> Iterator[Found]:
    """Yield the image files that names stand for, in the order of the names.

    A name is a file, a folder (searched recursively by suffix; hidden entries are skipped),
    or a glob pattern in which ``**`` spans folders. Files within a folder or pattern come in
    natural order. What names nothing comes out as an error in its place.
    """
    for name in names:
        if os.path.isdir(name):
            yield from _in_folder(name)
        elif os.path.lexists(name):
            yield Found(name)
        elif glob.has_magic(name):
            yield from _matching(name)
        else:
            yield Found(name, "no such file or folder")


def _matching(pattern: str) -> Iterator[Found]:
    matches = sorted(glob.glob(os.path.expanduser(pattern), recursive=True), key=natural_key)
    files = [match for match in matches if not os.path.isdir(match)]
    # A pattern that names files means these; one that names only folders means what is inside.
    if files:
        yield from map(Found, files)
    elif matches:
        for folder in matches:
            yield from _in_folder(folder)
    else:
        yield Found(pattern, "no file matches the pattern")


def _in_folder(folder: str) -> Iterator[Found]:
    unreadable: list[OSError] = []
    files = []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            os.path.join(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    yield from map(Found, sorted(files, key=natural_key))
    for error in unreadable:
        yield Found(str(error.filename), error.strerror)
    if not files and not unreadable:
        yield Found(folder, "no images in the folder")
