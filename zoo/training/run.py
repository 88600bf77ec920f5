"""A run's folder: what is in it, how it comes to be there, and who may write to it."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, ZooError
from zoo.files import replacing
from zoo.training.config import SETTINGS, TrainConfig
from zoo.training.settings import format_yaml

ARGS, STATE = "args.yaml", "state.safetensors"


class Run:
    """The folder of a run.

    It appears under its name once ``args.yaml`` and ``run.json`` are in it: it is made under
    another name and renamed. Every file in it is written whole, so that a run that is killed can be
    resumed.

    Attributes:
        folder: the path, as the user wrote it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    @property
    def state(self) -> Path:
        """The file that the run goes on from."""
        return self.folder / STATE

    @property
    def last(self) -> Path:
        """The weights after the last complete epoch."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the epoch with the best ``eval_top1``."""
        return self.folder / "best.safetensors"

    @classmethod
    def create(
        cls,
        folder: Path | None,
        config: TrainConfig,
        about: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> Run:
        """Make the folder of a new run, and lock it.

        Args:
            folder: by default the first of ``runs/DATASET-MODEL``, ``runs/DATASET-MODEL-2``, ...
                that does not exist.
            about: what ``run.json`` holds.
            overwrite: remove a run that is in the folder.

        Raises:
            UsageError: the folder is not empty and may not be overwritten.
            ZooError: it cannot be written.
        """
        place = folder or _unused(config)
        check_output(place, overwrite)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        except OSError as error:
            raise ZooError(
                f"cannot make {place}: {error.strerror}: choose another --output"
            ) from error
        try:
            (made / ARGS).write_text(format_yaml(config.plain()), encoding="utf-8")
            (made / "run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
            mask = os.umask(0)
            os.umask(mask)
            made.chmod(0o777 & ~mask)  # mkdtemp made it private
            if overwrite and is_run(place):
                old = cls(place)
                old.take()  # or it is refused: somebody trains there
                shutil.rmtree(place)
                old.release()
            made.rename(place)
        except OSError as error:
            raise ZooError(f"cannot make {place}: {error.strerror}") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
        run = cls(place)
        run.take()
        return run

    def take(self) -> None:
        """Lock the run for this process, as long as it lives; forked processes hold no lock.

        What a killed process left half-written goes away.
        """
        # Reading args.yaml again would give the lock up: it is read before.
        try:
            self._lock = os.open(self.folder / ARGS, os.O_RDWR)
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise UsageError(
                f"another process trains in {self.folder}: wait for it, or stop it first"
            ) from None
        except OSError as error:
            self.release()
            raise ZooError(f"cannot write in {self.folder}: {error.strerror}") from error
        for path in self.folder.glob(".*.*"):
            path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the lock up."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write(self, name: str, data: str | bytes) -> None:
        """Write one of the run's files, whole or not at all.

        Raises:
            ZooError: it cannot be written.
        """
        path = self.folder / name
        raw = data.encode() if isinstance(data, str) else data
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(raw)
        except OSError as error:
            raise ZooError(f"cannot write {path}: {error.strerror}") from error

    def write_summary(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Write ``summary.csv``: timm's columns, a row per epoch; accuracies are per cent."""
        rows = list(rows)
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write("summary.csv", stream.getvalue())

    def note_resumption(self, about: Mapping[str, Any]) -> None:
        """Add to ``run.json`` that the run goes on, where and with what."""
        path = self.folder / "run.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ZooError(f"cannot read {path}: {error}") from error
        document.setdefault("resumed", []).append(about)
        self.write(path.name, json.dumps(document, indent=2) + "\n")


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / ARGS).is_file()


def check_output(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that a new run must not take, before anything is done for it.

    Raises:
        UsageError: it is a file, holds something else than a run, or a run that may not be
            overwritten.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: choose another --output")
    if is_run(folder):
        if not overwrite:
            raise UsageError(
                f"{folder} holds a run: go on with it by --resume {folder}, choose another "
                "--output, or add --force to remove it"
            )
    elif any(folder.iterdir()):
        raise UsageError(f"{folder} holds something else than a run: choose another --output")


def check_unchanged(held: TrainConfig, given: Mapping[str, Any], folder: Path) -> TrainConfig:
    """The settings to go on with: the run's, and of the given ones those that do not matter.

    Raises:
        UsageError: a setting differs that the result depends on; the message says which.
    """
    merged = TrainConfig(**{**held.plain(), **given})
    before, now = held.plain(), merged.plain()
    changed = [
        f"{name} was {before[name]!r}, not {now[name]!r}"
        for name in before
        if now[name] != before[name] and not SETTINGS[name].metadata["free"]
    ]
    if changed:
        raise UsageError(
            f"{folder} was begun with other settings ({'; '.join(changed)}): leave them out, or "
            f"begin a new run from its weights by --initial-checkpoint {folder}/last.safetensors"
        )
    return merged


def _unused(config: TrainConfig) -> Path:
    stem = "-".join(
        re.sub(r"[^A-Za-z0-9._+-]", "_", Path(name).name) for name in (config.dataset, config.model)
    )
    number = 1
    while (path := Path("runs", stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return path
