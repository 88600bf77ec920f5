"""CIFAR-10 and CIFAR-100, in torchvision's files."""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

import zoo
from zoo.config import data_dir
from zoo.data.datasets.base import ImagesInMemory, Transform
from zoo.data.datasets.hierarchy import Hierarchy
from zoo.data.datasets.pickled import read_pickled
from zoo.files import replacing

_SIZE = (3, 32, 32)


class CIFAR10(ImagesInMemory):
    """60,000 images of 32x32 pixels in ten classes, uint8; 10,000 of them are the split ``test``.

    The archive's MD5 is verified before it is unpacked, and that of each unpacked file that holds
    as many images as the published one: own data in the same format may hold fewer or more.

    Args:
        split: ``"train"`` or ``"test"``.
        root: the folder that holds ``cifar-10-batches-py`` or ``cifar-10-python.tar.gz``, or the
            former itself. By default ``cifar10`` in ``zoo.config.data_dir()``.
        download: fetch the archive (170 MB) where neither is there.
        transform: of the uint8 tensor ``(3, 32, 32)``.

    Raises:
        zoo.DataError: the files are absent, damaged or others than were published.
    """

    name = "cifar10"
    published: Any = datasets.CIFAR10  # address, names and MD5s of the files
    labels = "labels"

    def __init__(
        self,
        *,
        split: str = "train",
        root: str | os.PathLike[str] | None = None,
        download: bool = False,
        transform: Transform | None = None,
    ) -> None:
        home = Path(os.path.expanduser(root) if root is not None else f"{data_dir()}/{self.name}")
        folder = self._folder(home, download)
        files = self.published.train_list if split == "train" else self.published.test_list
        batches = [self._read(folder / name, md5) for name, md5 in files]
        meta = self._content(folder / self.published.meta["filename"])[1]
        classes = self._names(meta, self.published.meta["key"])
        images = torch.cat([batch["data"] for batch in batches]).view(-1, *_SIZE)
        targets = torch.cat([torch.tensor(batch[self.labels]) for batch in batches])
        super().__init__(images, targets, classes, transform)
        self._read_more(meta, batches)

    def _read_more(self, meta: dict[str, Any], batches: list[dict[str, Any]]) -> None:
        """Read what the files hold beyond images, labels and class names."""

    def _folder(self, home: Path, download: bool) -> Path:
        """Return the folder of batches; unpack or download it if need be."""
        meta = self.published.meta["filename"]
        folder: Path = home / self.published.base_folder
        archive: Path = home / self.published.filename
        if (home / meta).is_file():
            return home
        if folder.is_dir():
            return folder
        try:
            if not archive.is_file():
                if not download:
                    raise zoo.DataError(
                        f"{self.name} is not in {home}: download it with download=True "
                        f"(--dataset-download), or give the folder that holds {folder.name} as "
                        "root (--data-dir)"
                    )
                self._download(archive)
            again = "delete it, and download it with download=True (--dataset-download)"
            self._verify(archive, _md5(archive), self.published.tgz_md5, again)
            self._unpack(archive, folder)
        except OSError as error:
            raise zoo.DataError(f"cannot write {home}: {error.strerror or error}") from error
        return folder

    def _download(self, archive: Path) -> None:
        archive.parent.mkdir(parents=True, exist_ok=True)
        url = self.published.url
        with replacing(archive) as temporary:
            try:
                torch.hub.download_url_to_file(url, str(temporary), progress=sys.stderr.isatty())
            except OSError as error:  # the network's are of this class too
                raise zoo.DataError(f"cannot download {url}: {error}") from error
            self._verify(url, _md5(temporary), self.published.tgz_md5, "try again later")

    def _unpack(self, archive: Path, folder: Path) -> None:
        """Unpack the files that are read, and make the folder visible when all are whole."""
        named = [*self.published.train_list, *self.published.test_list]
        names = [*(name for name, _ in named), self.published.meta["filename"]]
        with (
            tempfile.TemporaryDirectory(dir=folder.parent) as temporary,
            tarfile.open(archive) as tar,
        ):
            unpacked = Path(temporary, folder.name)
            unpacked.mkdir()
            for name in names:
                try:
                    file = tar.extractfile(f"{folder.name}/{name}")
                except KeyError:
                    file = None
                if file is None:
                    raise zoo.DataError(f"{archive} holds no file {folder.name}/{name}")
                (unpacked / name).write_bytes(file.read())
            if not folder.is_dir():  # another process may have been quicker
                os.rename(unpacked, folder)

    def _read(self, path: Path, md5: str) -> dict[str, Any]:
        """Return a batch: ``data`` as uint8 ``(N, 3072)``, the labels as lists of N ints."""
        content, batch = self._content(path)
        data, labels = batch.get("data"), batch.get(self.labels)
        count = len(labels) if isinstance(labels, list) else -1
        if (
            not isinstance(data, torch.Tensor)
            or data.shape != (count, 3 * 32 * 32)
            or not all(type(label) is int for label in batch[self.labels])
        ):
            raise zoo.DataError(f"{path} is no batch of {self.name}: delete it, and get it anew")
        if count == (50_000 if path.name == "train" else 10_000):
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            self._verify(path, found, md5, f"delete {path.parent}, and get it anew")
        return batch

    def _content(self, path: Path) -> tuple[bytes, dict[str, Any]]:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise zoo.DataError(
                f"cannot read {path} ({error.strerror}): delete {path.parent}, and get it anew"
            ) from error
        return content, read_pickled(content, str(path))

    def _names(self, meta: dict[str, Any], key: str) -> list[str]:
        names = meta.get(key)
        if not isinstance(names, list):
            raise zoo.DataError(f"{self.name}: {self.published.meta['filename']} has no {key}")
        return [name.decode() if isinstance(name, bytes) else str(name) for name in names]

    def _verify(self, what: object, found: str, published: str, remedy: str) -> None:
        if found != published:
            raise zoo.DataError(
                f"{what} is not {self.name} as it was published (MD5 {found} instead of "
                f"{published}): {remedy}"
            )


class CIFAR100(CIFAR10):
    """As :class:`CIFAR10`, in 100 classes that belong to 20 coarser ones.

    Attributes:
        hierarchy: the coarser classes, a :class:`zoo.data.datasets.hierarchy.Hierarchy`.
    """

    name = "cifar100"
    published: Any = datasets.CIFAR100
    labels = "fine_labels"

    def _read_more(self, meta: dict[str, Any], batches: list[dict[str, Any]]) -> None:
        coarse = self._names(meta, "coarse_label_names")
        above = {
            self.classes[fine]: [coarse[group]]
            for batch in batches
            for fine, group in zip(batch[self.labels], batch.get("coarse_labels", ()), strict=False)
            if 0 <= fine < len(self.classes) and 0 <= group < len(coarse)
        }
        words = {name: name.replace("_", " ") for name in (*self.classes, *coarse)}
        self.hierarchy = Hierarchy(self.classes, words, above)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
