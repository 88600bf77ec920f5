"""What a run says of itself on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO

_BAR = 12
_REDRAW_S = 0.1
_LINE_S = 60.0
"""Between two lines within an epoch, where there is no terminal."""


class Progress:
    """Tells how far a run is.

    Args:
        epochs: epochs in all. updates: steps of an epoch.
        done: steps that were done before.
        stream: where to; stderr.
        shown: False in all processes but the first.
    """

    def __init__(
        self,
        epochs: int,
        updates: int,
        *,
        done: int = 0,
        stream: TextIO | None = None,
        shown: bool = True,
    ) -> None:
        self._epochs, self._updates = epochs, updates
        self._stream = stream or sys.stderr
        self._shown = shown
        self._terminal = self._stream.isatty()
        self._start = self._told = time.monotonic()
        self._begun_at, self._done = done, done
        self._drawn = False
        self.begin_epoch()

    @property
    def images_per_second(self) -> float:
        """Speed of training in this epoch."""
        return self._images / max(self._stepped - self._begun, 1e-9)

    def begin_epoch(self) -> None:
        """Measure the speed anew."""
        self._images = 0.0
        self._begun = self._stepped = time.monotonic()

    def step(self, epoch: int, update: int, loss: float, accuracy: float, images: float) -> None:
        """Tell of a step.

        Args:
            epoch: from 0. update: steps of this epoch that are done.
            loss, accuracy: the epoch's so far; accuracy in per cent.
            images: how many this step had.
        """
        self._done += 1
        self._images += images
        self._stepped = now = time.monotonic()
        if not self._shown or now - self._told < (_REDRAW_S if self._terminal else _LINE_S):
            return
        self._told = now
        text = (
            f"epoch {epoch + 1}/{self._epochs}  {self._bar(update)}{update}/{self._updates}  "
            f"{_duration(self._left(now))} left  loss {loss:.4f}  accuracy {accuracy:.2f} %  "
            f"{self.images_per_second:,.0f} images/s"
        )
        self._write(text, keep=False)

    def end_epoch(self, row: Mapping[str, float]) -> None:
        """Tell of a complete epoch: its row of the summary."""
        if not self._shown:
            return
        self._told = time.monotonic()
        self._write(
            f"epoch {int(row['epoch']) + 1}/{self._epochs}  train loss {row['train_loss']:.4f}  "
            f"eval loss {row['eval_loss']:.4f}  top-1 {row['eval_top1']:.2f} %  "
            f"lr {row['lr']:.3g}  {self.images_per_second:,.0f} images/s  "
            f"{_duration(self._left(self._told))} left",
            keep=True,
        )

    def note(self, message: str) -> None:
        """Print a line."""
        if self._shown:
            self._write(message, keep=True)

    def close(self) -> None:
        """Wipe the bar."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False

    def _bar(self, update: int) -> str:
        if not self._terminal:
            return ""
        full = round(_BAR * update / self._updates)
        return f"[{'#' * full}{'.' * (_BAR - full)}] "

    def _left(self, now: float) -> float:
        """Seconds that the rest takes at the speed so far, evaluation included."""
        here = self._done - self._begun_at
        return (self._epochs * self._updates - self._done) * (now - self._start) / max(here, 1)

    def _write(self, text: str, keep: bool) -> None:
        if not self._terminal:
            self._stream.write(text + "\n")
        else:
            width = os.get_terminal_size(self._stream.fileno()).columns or 80
            shown = text if keep else text[: max(width - 1, 1)]
            self._stream.write(f"\r\x1b[K{shown}" + ("\n" if keep else ""))
            self._drawn = not keep
        self._stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
