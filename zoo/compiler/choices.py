"""Which kernels compute a convolution: the fixed list's, or what was measured to be faster."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from zoo import ops
from zoo._version import __version__
from zoo.compiler.values import Weight
from zoo.config import cache_dir
from zoo.files import replacing
from zoo.processor import model_name

# zoo: by the fixed list. exact: zoo's, but not Winograd's method. onednn: oneDNN, weights packed.
Choice: TypeAlias = Literal["zoo", "exact", "onednn"]
_log = logging.getLogger(__name__)


class Choices:
    """By the fixed list.

    Attributes:
        packed: weights and what oneDNN has packed them into, for the plans of one network. They are
            known by address, so the plain ones have to stay.
    """

    def __init__(self) -> None:
        self.packed: dict[tuple[int, int | None, str], tuple[Weight, Tensor]] = {}

    def __call__(self, case: str) -> Choice:
        """The choice for this case."""
        return "zoo"


class Always(Choices):
    """The same for all, to measure it."""

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self._choice = choice

    def __call__(self, case: str) -> Choice:
        """That choice."""
        return self._choice


class Measured(Choices):
    """What was measured on this machine with these versions, kept in a file of the user's cache.

    A file that is damaged, or cannot be written to, is as good as none.
    """

    def __init__(self) -> None:
        super().__init__()
        machine = {
            "cpu": model_name(),
            "capability": ops.cpu_capability(),
            "zoo": __version__,
            "torch": torch.__version__,
        }
        name = hashlib.sha256(json.dumps(machine).encode()).hexdigest()[:16]
        self.path = Path(cache_dir(), "choices", f"{name}.json")
        self._machine = machine
        self._cases: dict[str, Choice] = self._read()

    def __call__(self, case: str) -> Choice:
        """The choice for this case; the fixed list's where it was never measured."""
        return self._cases.get(case, "zoo")

    def know(self, cases: Iterable[str]) -> bool:
        """Whether all of them were measured."""
        return all(case in self._cases for case in cases)

    def remember(self, cases: Mapping[str, Choice]) -> None:
        """Add what was measured, also to the file."""
        self._cases = {**self._read(), **self._cases, **cases}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as temporary:
                document = {"machine": self._machine, "cases": self._cases}
                temporary.write_text(json.dumps(document, indent=1) + "\n")
        except OSError as error:
            _log.warning("what was measured cannot be kept: %s", error)

    def _read(self) -> dict[str, Choice]:
        try:
            cases = json.loads(self.path.read_text())["cases"]
            return {case: choice for case, choice in cases.items() if choice in get_args(Choice)}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s is ignored: %s", self.path, error)
            return {}
