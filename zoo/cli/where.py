"""Conditions on models: ``params<5e6``, ``family=resnet*``, ``license=commercial``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

from zoo.errors import UsageError
from zoo.names import closest
from zoo.registry import Entry
from zoo.specs import Architecture, Weights

COMMERCIAL_LICENSES = frozenset(
    """
    0BSD AFL-3.0 Apache-2.0 Artistic-2.0 BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSL-1.0
    CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0 CDLA-Permissive-1.0
    CDLA-Permissive-2.0 ECL-2.0 EPL-2.0 EUPL-1.2 GPL-2.0-only GPL-2.0-or-later GPL-3.0-only
    GPL-3.0-or-later AGPL-3.0-only AGPL-3.0-or-later ISC LGPL-2.1-only LGPL-2.1-or-later
    LGPL-3.0-only LGPL-3.0-or-later MIT MIT-0 MPL-2.0 MS-PL NCSA ODC-By-1.0 PDDL-1.0 PSF-2.0
    Unlicense UPL-1.0 WTFPL Zlib
    """.casefold().split()
)
"""SPDX identifiers, in lower case, of licences that allow commercial use.

Some do so on conditions, such as naming the author or sharing changes alike.
"""

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
# Compiled on first use: most listings have no condition.
_CONDITION = r"\s*(?P<field>[^<>=!]*?)\s*(?P<operator><=|>=|!=|==|<|>|=)\s*(?P<value>.*?)\s*"
_NUMBER = r"(?P<number>[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)(?P<unit>[kmgt]?)"
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry, perhaps with only some of its weights."""

    entry: Entry
    narrowed: Mapping[str, Weights] | None = None

    @property
    def name(self) -> str:
        """The canonical name."""
        return self.entry.name

    @property
    def spec(self) -> Architecture:
        """What the plugin says; decoded on first use, so names alone cost little."""
        spec: Architecture = self.entry.spec
        return spec

    @property
    def weights(self) -> Mapping[str, Weights]:
        """Tag -> weights that fulfil all conditions so far."""
        return self.spec.weights if self.narrowed is None else self.narrowed


NUMBERS: dict[str, Callable[[Architecture], float | None]] = {
    "params": lambda spec: spec.params,
    "macs": lambda spec: spec.macs,
    "input_size": lambda spec: max(spec.input_size[1:]) if spec.input_size else None,
    "in_chans": lambda spec: spec.input_size[0] if spec.input_size else None,
    "num_classes": lambda spec: spec.num_classes,
    "crop_pct": lambda spec: spec.crop_pct,
}
"""Numeric fields of an architecture. ``input_size`` is the longer side in pixels."""

TEXTS: dict[str, Callable[[Model], Iterable[str | None]]] = {
    "name": lambda model: [model.name, model.spec.name],
    "plugin": lambda model: [model.entry.plugin],
    "family": lambda model: [model.spec.family],
    "interpolation": lambda model: [model.spec.interpolation],
    "native_for": lambda model: model.spec.native_for,
    "capabilities": lambda model: model.spec.capabilities,
}
"""Text fields of a model, each with all its values."""

WEIGHT_TEXTS = ("license", "tag")
"""Text fields of single weights."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a field with a value.

    Fields are those of :data:`NUMBERS` and :data:`TEXTS`, and of single weights: ``license``,
    ``tag`` and published metrics such as ``imagenet-1k/top1``.
    """

    text: str
    field: str
    operator: str
    value: float | str

    def select(self, models: Iterable[Model]) -> tuple[list[Model], int]:
        """Return the models that fulfil the condition, and how many of the others are unknown.

        Unknown are those about which the field says nothing. A condition on weights leaves a
        model only the weights that fulfil it.
        """
        kept, unknown = [], 0
        for model in models:
            verdict: bool | None
            if self.field in NUMBERS:
                verdict = self._compare(NUMBERS[self.field](model.spec))
            elif self.field in TEXTS:
                verdict = self._match(TEXTS[self.field](model))
            else:
                verdicts = {
                    tag: self._weights(tag, weights) for tag, weights in model.weights.items()
                }
                fitting = {tag: model.weights[tag] for tag, fits in verdicts.items() if fits}
                known = any(fits is not None for fits in verdicts.values())
                verdict = bool(fitting) if known else None
                model = Model(model.entry, fitting)
            if verdict:
                kept.append(model)
            unknown += verdict is None
        return kept, unknown

    def _weights(self, tag: str, weights: Weights) -> bool | None:
        if self.field == "tag":
            return self._match([tag])
        if self.field == "license":
            return self._match([weights.license])
        return self._compare(weights.metrics.get(self.field))

    def _compare(self, number: float | None) -> bool | None:
        return None if number is None else _COMPARE[self.operator](number, self.value)

    def _match(self, texts: Iterable[str | None]) -> bool | None:
        """Whether ``=`` holds for one of the texts, or ``!=`` for all of them."""
        values = [text.casefold() for text in texts if text]
        if not values:
            return None
        wanted = str(self.value).casefold()
        if self.field == "license" and wanted == "commercial":
            found = any(value in COMMERCIAL_LICENSES for value in values)
        else:
            found = any(fnmatchcase(value, wanted) for value in values)
        return found != (self.operator == "!=")


def parse_number(text: str) -> float:
    """Read ``5e6``, ``5M`` or ``5_000k``; units are powers of 1000 in either case.

    Raises:
        ValueError: it is not a number.
    """
    match = re.fullmatch(_NUMBER, text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is not a number")
    return float(match["number"].replace("_", "")) * _UNITS[match["unit"].lower()]


def parse_condition(text: str, metrics: Callable[[], Sequence[str]] = tuple) -> Condition:
    """Read a condition.

    Args:
        text: ``FIELD OPERATOR VALUE`` with one of ``< <= > >= = == !=``. Texts are compared
            without regard to case, by ``=`` and ``!=`` alone, and may have wildcards.
        metrics: returns the names of the published metrics that may be asked for besides;
            called only for a field of no other kind.

    Raises:
        UsageError: unknown field, missing or unfit operator or value.
    """
    match = re.fullmatch(_CONDITION, text)
    if match is None:
        raise UsageError(f"--where {text!r}: write FIELD OPERATOR VALUE, e.g. 'params<5M'")
    field, sign, value = match["field"], match["operator"], match["value"]
    fields = [*NUMBERS, *TEXTS, *WEIGHT_TEXTS]
    if field not in fields and field not in (known := [*fields, *metrics()]):
        close = closest(field, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        raise UsageError(f"--where {text!r}: no field {field!r}; {hint}")
    if not value:
        raise UsageError(f"--where {text!r}: a value is missing after {sign}")
    if field in TEXTS or field in WEIGHT_TEXTS:
        if sign not in ("=", "==", "!="):
            raise UsageError(f"--where {text!r}: {field} is text, use = or !=")
        return Condition(text, field, sign, value)
    try:
        return Condition(text, field, sign, parse_number(value))
    except ValueError as error:
        raise UsageError(f"--where {text!r}: {error}") from error


def metric_names(models: Iterable[Model]) -> list[str]:
    """List the metrics that any weights publish, sorted."""
    weights = chain.from_iterable(model.weights.values() for model in models)
    return sorted({metric for item in weights for metric in item.metrics})
