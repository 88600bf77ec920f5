"""Keeps PyTorch's account of what it could not trace off stderr."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

_LOGGERS = (
    "torch.export._trace",
    "torch._subclasses.fake_tensor",
    "torch.fx.experimental.symbolic_shapes",
)


class _Others(logging.Filter):
    """Lets records pass that other threads write."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._own


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of tracing is written to stderr: tracebacks, and the graph as far as it went.

    What matters of it is in the error that tracing raises, which becomes one line.
    """
    others = _Others()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(others)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(others)
