"""The curves of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import ZooError

EVERY = 50
"""Steps between two points of the curve of single steps."""


class Events:
    """Writes scalars to ``FOLDER/events.out.tfevents.*``.

    Args:
        step: where the run is. What an earlier process wrote of later steps does not count.

    Raises:
        ZooError: the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._writer: Any = self._guarded(SummaryWriter, str(folder), purge_step=step or None)

    def step(self, step: int, loss: float, rate: float) -> None:
        """Note a step's loss and learning rate, now and then."""
        if step % EVERY == 0:
            self._guarded(self._writer.add_scalar, "step/loss", loss, step)
            self._guarded(self._writer.add_scalar, "step/lr", rate, step)

    def epoch(self, step: int, row: Mapping[str, float], images_per_second: float) -> None:
        """Note an epoch's row of the summary."""
        for name, value in {**row, "images_per_second": images_per_second}.items():
            self._guarded(self._writer.add_scalar, f"epoch/{name}", value, step)
        self._guarded(self._writer.flush)

    def close(self) -> None:
        """Write what is left."""
        self._guarded(self._writer.close)

    def _guarded(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except OSError as error:
            raise ZooError(f"cannot write in {self._folder}: {error.strerror}") from error
