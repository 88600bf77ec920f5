"""Which argument of a call is of a wrong type: asked once the call has failed.

PyTorch's dispatcher checks types in each call, and says what is wrong in ten lines of its own
schema. So the ops leave the check to it and come here afterwards: a call that works pays nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def check_types(function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Raise the TypeError that names the first value that is not what it is annotated as.

    Args:
        function: whose annotations count, as they are written; unknown ones pass.
        values: its arguments by name, say all its locals.
    """
    for name, annotation in function.__annotations__.items():
        if name not in values or annotation not in _TYPES:
            continue
        accepts, what = _TYPES[annotation]
        if not accepts(values[name]):
            text = f"{function.__name__}: {name} must be {what}, not {shown(values[name])}"
            raise TypeError(text) from None


def shown(value: object) -> str:
    """The value, if that is short and says something; otherwise its type."""
    text = repr(value)
    short = len(text) <= 40 and text.isprintable() and not text.startswith("<")
    return text if short else type(value).__name__


def _tensor(value: object) -> bool:
    return hasattr(type(value), "__torch_function__")  # what stands for a Tensor while tracing, too


def _whole(value: Any) -> bool:
    try:
        return -(2**63) <= operator.index(value) < 2**63
    except TypeError:
        return False


def _whole_numbers(value: Any) -> bool:
    try:
        return hasattr(value, "__len__") and all(map(_whole, value))
    except TypeError:  # a tensor without dimensions, say
        return False


def _pair(value: object) -> bool:
    return _whole(value) or (isinstance(value, Sequence) and _whole_numbers(value))


def _sizes(value: object) -> bool:
    return _whole(value) or (isinstance(value, Sequence) and all(map(_or_none(_whole), value)))


def _number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return not isinstance(value, str)


def _truth(value: object) -> bool:
    try:
        bool(value)
    except (ValueError, RuntimeError):  # of many elements at once
        return False
    return True


def _or_none(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or accepts(value)


_PAIR = "a whole number or a pair of them"
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "Tensor": (_tensor, "a Tensor"),
    "Tensor | None": (_or_none(_tensor), "a Tensor or None"),
    "Ints": (_pair, _PAIR),
    "Ints | None": (_or_none(_pair), f"{_PAIR}, or None"),
    "Ints | str": (lambda value: isinstance(value, str) or _pair(value), _PAIR),
    "Sizes": (_sizes, f"{_PAIR}, or None for one"),
    "Sequence[int]": (_whole_numbers, "a sequence of whole numbers"),
    "Sequence[int] | None": (_or_none(_whole_numbers), "a sequence of whole numbers or None"),
    "int": (_whole, "a whole number"),
    "int | None": (_or_none(_whole), "a whole number or None"),
    "float": (_number, "a number"),
    "bool": (_truth, "a bool"),
    "Activation": (lambda value: isinstance(value, str), 'a name such as "none"'),
    "Precision": (lambda value: isinstance(value, str), 'a name such as "default"'),
    "Pool": (lambda value: isinstance(value, str), 'a name such as "max"'),
}
