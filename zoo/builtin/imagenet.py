"""ImageNet's 1,000 classes (ILSVRC 2012), in the layout of its archives."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zoo
from zoo.config import data_dir
from zoo.data.datasets.base import ImageFiles, Transform
from zoo.data.datasets.folder import class_folders, images_below
from zoo.data.datasets.hierarchy import Hierarchy
from zoo.data.datasets.words import imagenet_words
from zoo.names import one_line

DEVKIT = os.path.join("ILSVRC2012_devkit_t12", "data")
_NUMBER = re.compile(r"_(\d{1,8})\.\w+$")


class ImageNet(ImageFiles):
    """ILSVRC 2012: ``ROOT/train/WNID/*.JPEG`` and ``ROOT/val/*.JPEG`` or ``ROOT/val/WNID/*.JPEG``.

    The devkit, ``ROOT/ILSVRC2012_devkit_t12``, gives the labels of validation images that lie in no
    class folders, the words of the classes, and what stands above them. Without it timm, where it
    is installed, gives the words; else the WordNet ids are the names.

    Classes are ordered by WordNet id, as published weights have them. They are those in ``train``
    where that is there, and else all of the devkit or of ``val``. Validation images of other
    classes are left out, so that fewer class folders make a subset.

    Args:
        split: ``"train"`` or ``"val"``.
        root: the folder; by default ``imagenet`` in ``zoo.config.data_dir()``.
        transform: of the opened image.

    Attributes:
        wnids: the WordNet id of each class, by index.
        hierarchy: WordNet above the classes, a
            :class:`zoo.data.datasets.hierarchy.Hierarchy`; None without the devkit.

    Raises:
        zoo.DataError: the images or the labels are absent or damaged.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        root: str | os.PathLike[str] | None = None,
        transform: Transform | None = None,
    ) -> None:
        home = os.path.expanduser(root) if root is not None else f"{data_dir()}/imagenet"
        folder = os.path.join(home, split)
        if not os.path.isdir(folder):
            raise zoo.DataError(
                f"imagenet has no folder {folder}: get the archives at "
                "https://image-net.org/download.php (an account is needed), unpack them there, or "
                "give the folder that holds train and val as root (--data-dir)"
            )
        devkit = _read_devkit(os.path.join(home, DEVKIT))
        sorted_in = class_folders(folder)
        train = os.path.join(home, "train")
        wnids = class_folders(train) if os.path.isdir(train) else []
        self.wnids = tuple(wnids or (devkit.classes if devkit else sorted_in))
        index = {wnid: number for number, wnid in enumerate(self.wnids)}
        paths: list[str] = []
        targets: list[int] = []
        for wnid in sorted_in:
            if wnid in index:
                images = images_below(os.path.join(folder, wnid))
                paths += images
                targets += [index[wnid]] * len(images)
        if not sorted_in:
            truth = _read_truth(home, folder, devkit)
            for path in images_below(folder):
                wnid = _labelled(path, truth)
                if wnid in index:
                    paths.append(path)
                    targets.append(index[wnid])
        words = devkit.words if devkit else imagenet_words()
        classes = [words.get(wnid, wnid) for wnid in self.wnids]
        super().__init__(paths, targets, classes, transform)
        self.hierarchy = (
            Hierarchy(self.wnids, devkit.words, devkit.parents) if devkit is not None else None
        )


@dataclass(frozen=True, slots=True)
class _Devkit:
    """What ``meta.mat`` says.

    Attributes:
        ids: ILSVRC2012_ID -> WordNet id.
        classes: the WordNet ids of the 1,000 classes, sorted.
        words: WordNet id -> words, also of what stands above the classes.
        parents: WordNet id -> the ids right above it.
    """

    ids: Mapping[int, str]
    classes: Sequence[str]
    words: Mapping[str, str]
    parents: Mapping[str, Sequence[str]]


def _read_devkit(folder: str) -> _Devkit | None:
    """Read the devkit's table of classes; None where there is none."""
    path = os.path.join(folder, "meta.mat")
    if not os.path.isfile(path):
        return None
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise zoo.DataError(
            f"{path} is read by SciPy; install it with: pip install 'zoo-vision[demo]'"
        ) from error
    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        rows = [
            {name: row[name] for name in ("ILSVRC2012_ID", "WNID", "words", "children")}
            for row in synsets
        ]
        ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
        parents: dict[str, list[str]] = {}
        for row in rows:
            for child in _numbers(row["children"]):
                parents.setdefault(ids[child], []).append(str(row["WNID"]))
        classes = sorted(str(row["WNID"]) for row in rows if not _numbers(row["children"]))
        return _Devkit(ids, classes, {str(r["WNID"]): str(r["words"]) for r in rows}, parents)
    except Exception as error:  # scipy raises many types for damaged files
        raise zoo.DataError(
            f"{path} is damaged ({one_line(error)}): unpack ILSVRC2012_devkit_t12.tar.gz again"
        ) from error


def _numbers(value: Any) -> list[int]:
    """Return a cell of whole numbers, which is a bare number where it holds one."""
    return [int(number) for number in getattr(value, "flat", [value])]


def _read_truth(home: str, folder: str, devkit: _Devkit | None) -> list[str]:
    """Return the WordNet ids of the validation images, by number from 1 on."""
    path = os.path.join(home, DEVKIT, "ILSVRC2012_validation_ground_truth.txt")
    try:
        if devkit is None:
            raise FileNotFoundError
        with open(path, encoding="ascii") as file:
            return [devkit.ids[int(line)] for line in file.read().split()]
    except (OSError, ValueError, KeyError) as error:
        raise zoo.DataError(
            f"the images in {folder} lie in no class folders, and {path} cannot be read: unpack "
            f"ILSVRC2012_devkit_t12.tar.gz in {home}, or sort the images into folders "
            "val/WNID"
        ) from error


def _labelled(path: str, truth: Sequence[str]) -> str:
    match = _NUMBER.search(path)
    number = int(match[1]) if match else 0
    if not 1 <= number <= len(truth):
        raise zoo.DataError(
            f"{path}: its name must end in its number, from 1 to {len(truth)}, as "
            "ILSVRC2012_val_00000001.JPEG: the label is found by it"
        )
    return truth[number - 1]
