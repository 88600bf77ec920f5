"""Images in a folder per class."""

from __future__ import annotations

import os
from typing import NoReturn

from zoo.data.datasets.base import ImageFiles, Transform
from zoo.data.find import IMAGE_SUFFIXES
from zoo.errors import DataError, UsageError

SPLITS = ("train", "val", "validation", "test")


class Folder(ImageFiles):
    """A folder per class: ``ROOT/CLASS/**/IMAGE``, or ``ROOT/SPLIT/CLASS/**/IMAGE``.

    The folders of ROOT are splits where one of them is named like a split and holds class folders
    and no images; what else lies beside the splits does not count. Otherwise they are classes, and
    all images are the split ``train``. Classes are the names of the class folders in all splits, in
    the order of their code points, so that an index means the same in each of them. Images are
    ordered by path. Names that begin with a dot are left out; symbolic links are followed.

    Args:
        root: the folder.
        split: ``"train"``, ``"val"``, ``"validation"`` or ``"test"``.
        transform: of the opened image.

    Raises:
        UsageError: there is no such folder or split.
        DataError: there are no class folders, or one of them holds no images.
    """

    def __init__(
        self,
        *,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transform: Transform | None = None,
    ) -> None:
        folders = _split_folders(root)
        if split not in folders:
            raise UsageError(f"{root} has no split {split!r}; there are {', '.join(folders)}")
        found = {name: class_folders(folder) for name, folder in folders.items()}
        if not found[split]:
            where = folders[split]
            raise DataError(
                f"{where} has no class folders: put the images of each class into a folder of its "
                f"own, as {os.path.join(where, 'CLASS', 'IMAGE.jpg')}"
            )
        classes = sorted(set().union(*found.values()))
        paths, targets = [], []
        for name in found[split]:
            images = images_below(os.path.join(folders[split], name))
            paths += images
            targets += [classes.index(name)] * len(images)
        super().__init__(paths, targets, classes, transform)

    @staticmethod
    def find_splits(root: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """Return the splits of a folder."""
        return tuple(_split_folders(root))


def _split_folders(root: str | os.PathLike[str] | None) -> dict[str, str]:
    """Return the folder of each split."""
    if root is None:
        raise UsageError(
            "which folder? name it as the data set, or give it as root (--data-dir on the "
            "command line)"
        )
    root = os.path.expanduser(root)
    if not os.path.isdir(root):
        raise UsageError(f"there is no folder {root}")
    named = {split: os.path.join(root, split) for split in SPLITS}
    there = {split: folder for split, folder in named.items() if os.path.isdir(folder)}
    if any(class_folders(folder) and not _has_images(folder) for folder in there.values()):
        return there
    return {"train": root}


def class_folders(folder: str) -> list[str]:
    """Return the names of the folders in a folder, sorted.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        _unreadable(error)


def images_below(folder: str) -> list[str]:
    """Return the image files in a class folder and the folders below it, sorted by path.

    Raises:
        DataError: there are none, or a folder cannot be read.
    """
    paths: list[str] = []
    seen: set[str] = set()  # of real paths: links may form a circle
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [f for f in folders if not f.startswith(".")]
        if real not in seen:
            paths += [os.path.join(parent, name) for name in names if _is_image(name)]
        seen.add(real)
    if not paths:
        raise DataError(
            f"{folder} holds no images (by suffix: .jpg, .png, ...): put some there, or remove "
            "the folder"
        )
    return sorted(paths)


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


def _has_images(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(_is_image(entry.name) and entry.is_file() for entry in entries)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
