"""Progress of long work, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from zoo.cli.output import note

_LINE_EVERY = 10  # seconds


@contextmanager
def progress(what: str, images: int) -> Iterator[Callable[[int], None]]:
    """Give a function to call with the number of images done since the last call.

    It shows a bar on a terminal, and elsewhere a line now and then.
    """
    if sys.stderr.isatty():
        with click.progressbar(length=images, label=what, file=sys.stderr) as bar:
            yield bar.update
        return
    done, told = 0, time.monotonic()

    def update(more: int) -> None:
        nonlocal done, told
        done += more
        if time.monotonic() - told >= _LINE_EVERY:
            told = time.monotonic()
            note(f"{what}: {done:,} of {images:,}")

    yield update
