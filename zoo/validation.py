"""Checks of what plugins return: a mistake is named once, when the plugin is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from zoo.names import SPEC_NAME, TAG
from zoo.specs import (
    Architecture,
    Augmentation,
    Backend,
    Catalog,
    Command,
    Dataset,
    Loss,
    Spec,
    Weights,
)

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
LOSS_TARGETS = ("index", "soft", "multihot", "embedding")

_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Mistake(ValueError):
    """Something that zoo found wrong with a plugin; the message is one line and says it all."""


class _Rule:
    """What a field must be: a predicate and the words for it."""

    def __init__(self, words: str, holds: Callable[[Any], bool]) -> None:
        self.words = words
        self.holds = holds

    def or_none(self) -> _Rule:
        return _Rule(f"{self.words} or None", lambda value: value is None or self.holds(value))


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | str) or _is_real(value)


def _tuple_of(holds: Callable[[Any], bool], least: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and len(value) >= least and all(map(holds, value))


def _one_of(*choices: str) -> _Rule:
    return _Rule("one of " + ", ".join(map(repr, choices)), lambda value: value in choices)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_target(value: Any) -> bool:
    """Return whether a value has the form ``"package.module:attribute"``."""
    return isinstance(value, str) and _TARGET.fullmatch(value) is not None


_text = _Rule("a non-empty str", _is_text)
_target = _Rule('a target "package.module:attribute"', is_target)
_count = _Rule("an int >= 0", lambda value: _is_int(value, 0))
_positive = _Rule("an int >= 1", lambda value: _is_int(value, 1))
_ratio = _Rule("a number above 0", lambda value: _is_real(value) and value > 0)
_size = _Rule(
    "a tuple (channels, height, width) of ints >= 1",
    lambda value: _tuple_of(lambda side: _is_int(side, 1))(value) and len(value) == 3,
)
_mean = _Rule("a tuple of numbers", _tuple_of(_is_real, 1))
_std = _Rule("a tuple of numbers above 0", _tuple_of(lambda x: _is_real(x) and x > 0, 1))
_texts = _Rule("a tuple of str", _tuple_of(_is_text))
_interpolation = _one_of(*INTERPOLATIONS)

_PREPROCESSING = {
    "input_size": _size.or_none(),
    "mean": _mean.or_none(),
    "std": _std.or_none(),
    "interpolation": _interpolation.or_none(),
    "crop_pct": _ratio.or_none(),
    "num_classes": _count.or_none(),
    "license": _text.or_none(),
}

_RULES: dict[type, dict[str, _Rule]] = {
    Weights: {
        "source": _Rule(
            "a non-empty str, and not plain http://",
            lambda value: _is_text(value) and not value.lower().startswith("http://"),
        ),
        "sha256": _Rule(
            "64 hexadecimal digits or None",
            lambda value: (
                value is None or (isinstance(value, str) and _SHA256.fullmatch(value) is not None)
            ),
        ),
        "labels": _target.or_none(),
        "resize_size": _positive.or_none(),
        "metrics": _Rule(
            "a dict from str to finite numbers",
            lambda value: (
                isinstance(value, Mapping)
                and all(_is_text(key) and _is_real(item) for key, item in value.items())
            ),
        ),
        "convert": _target.or_none(),
        "loader": _target.or_none(),
        **_PREPROCESSING,
    },
    Architecture: {
        "factory": _target,
        "family": _text.or_none(),
        "params": _count.or_none(),
        "macs": _count.or_none(),
        "native_for": _texts,
        "weights": _Rule(
            "a dict from tag to zoo.Weights",
            lambda value: (
                isinstance(value, Mapping)
                and all(isinstance(item, Weights) for item in value.values())
            ),
        ),
        "capabilities": _texts,
        "cam_target": _text.or_none(),
        "paper": _text.or_none(),
        "default_kwargs": _Rule(
            "a dict of plain values without num_classes and in_chans",
            lambda value: (
                isinstance(value, Mapping)
                and _is_plain(dict(value))
                and not {"num_classes", "in_chans"} & set(value)
            ),
        ),
        **_PREPROCESSING,
    },
    Catalog: {"builder": _target, "depends": _texts},
    Augmentation: {
        "factory": _target,
        "level": _one_of("image", "batch"),
        "targets": _one_of("unchanged", "soft"),
        "license": _text.or_none(),
        "paper": _text.or_none(),
        "per_sample": _Rule("a bool", lambda value: isinstance(value, bool)),
    },
    Loss: {
        "factory": _target,
        "target": _Rule(
            "one of " + ", ".join(map(repr, LOSS_TARGETS)) + ", or a tuple of them",
            lambda value: (
                value in LOSS_TARGETS or _tuple_of(lambda item: item in LOSS_TARGETS, 1)(value)
            ),
        ),
        "needs_features": _Rule("a bool", lambda value: isinstance(value, bool)),
        "license": _text.or_none(),
        "paper": _text.or_none(),
    },
    Dataset: {
        "factory": _target,
        "task": _text,
        "num_classes": _positive.or_none(),
        "input_size": _size.or_none(),
        "mean": _mean.or_none(),
        "std": _std.or_none(),
        "splits": _Rule("a tuple of at least one str", _tuple_of(_is_text, 1)),
        "recipe": _text.or_none(),
        "license": _text.or_none(),
        "source": _text.or_none(),
    },
    Backend: {
        "prepare": _target,
        "requires": _Rule(
            "a tuple of names of modules, without dots",
            _tuple_of(lambda name: isinstance(name, str) and name.isidentifier()),
        ),
        "dynamic": _Rule("a bool", lambda value: isinstance(value, bool)),
        "auto": _Rule("a bool", lambda value: isinstance(value, bool)),
        "license": _text.or_none(),
        "summary": _Rule("a str", lambda value: isinstance(value, str)),
    },
    Command: {"target": _target, "help": _Rule("a str", lambda value: isinstance(value, str))},
}


def _check_fields(spec: Spec | Weights, where: str) -> None:
    rules = next(rules for kind, rules in _RULES.items() if isinstance(spec, kind))
    for field, rule in rules.items():
        value = getattr(spec, field)
        try:
            good = rule.holds(value)
        except TypeError:  # an unhashable value compared with strings, for instance
            good = False
        if not good:
            raise Mistake(f"{where}: {field} must be {rule.words}, not {value!r}")


def check_spec(spec: Spec) -> None:
    """Check every field of a spec.

    Raises:
        Mistake: names the spec, the field, what it must be and what it is.
    """
    where = f"{type(spec).__name__} {spec.name!r}"
    if not isinstance(spec.name, str) or not SPEC_NAME.fullmatch(spec.name):
        raise Mistake(
            f"{where}: a name is made of ASCII letters, digits, '_', '-' and '+', "
            "without dots (a dot separates the weights tag)"
        )
    _check_fields(spec, where)
    if isinstance(spec, Architecture):
        for tag, weights in spec.weights.items():
            if not isinstance(tag, str) or not TAG.fullmatch(tag):
                raise Mistake(
                    f"{where}: the weights tag {tag!r} must be made of ASCII letters, digits, "
                    "'.', '_', '-' and '+'"
                )
            _check_fields(weights, f"{where}, weights {tag!r}")
