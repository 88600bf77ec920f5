"""Sizes that follow from the inputs' sizes, and conditions on them, as trees of plain values.

sympy's expressions are turned into such trees once. They can be written down and read again
without running code, and are evaluated by the functions of one table.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import sympy

# A number; the name of an open size; or a function's name and its operands.
Formula: TypeAlias = "bool | int | float | str | tuple[Any, ...]"


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > 64:
        raise OverflowError("no size of a tensor is such a power")
    exact = isinstance(base, int) and isinstance(exponent, int) and exponent < 0
    return (Fraction(base) if exact else base) ** exponent


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Abs": abs,
    "Add": lambda *terms: sum(terms),
    "And": lambda *terms: all(terms),
    "CeilToInt": math.ceil,
    "CleanDiv": operator.floordiv,
    "Equality": operator.eq,
    "FloatPow": _power,
    "FloatTrueDiv": operator.truediv,
    "FloorDiv": operator.floordiv,
    "FloorToInt": math.floor,
    "GreaterThan": operator.ge,
    "Identity": lambda value: value,
    "IntTrueDiv": operator.truediv,
    "LessThan": operator.le,
    "Max": max,
    "Min": min,
    "Mod": operator.mod,
    "ModularIndexing": lambda base, divisor, modulus: base // divisor % modulus,
    "Mul": lambda *factors: math.prod(factors),
    "Not": operator.not_,
    "Or": lambda *terms: any(terms),
    "Pow": _power,
    "PowByNatural": _power,
    "PythonMod": operator.mod,
    "Rational": Fraction,
    "RoundToInt": round,
    "StrictGreaterThan": operator.gt,
    "StrictLessThan": operator.lt,
    "ToFloat": float,
    "TruncToInt": math.trunc,
    "Unequality": operator.ne,
    "Where": lambda condition, one, other: one if condition else other,
}


def formula(expression: sympy.Basic) -> Formula:
    """The expression as a tree. Raises NotImplementedError where it uses an unknown function."""
    if expression in (sympy.true, sympy.false):
        return bool(expression)
    if isinstance(expression, sympy.Symbol):
        return str(expression.name)
    if isinstance(expression, sympy.Integer):
        return int(expression)
    if isinstance(expression, sympy.Rational):
        return "Rational", int(expression.p), int(expression.q)
    if isinstance(expression, sympy.Float):
        return float(expression)
    name = type(expression).__name__
    if name not in _FUNCTIONS:
        raise NotImplementedError(f"sizes that depend on {name}")
    return name, *map(formula, expression.args)


def evaluate(tree: Formula, sizes: Mapping[str, int]) -> Any:
    """The number or truth value, for these open sizes.

    Raises ArithmeticError, KeyError (a size that is not given), TypeError or ValueError.
    """
    if isinstance(tree, str):
        return sizes[tree]
    if isinstance(tree, tuple):
        return _FUNCTIONS[tree[0]](*(evaluate(operand, sizes) for operand in tree[1:]))
    return tree


def from_json(value: Any) -> Formula:
    """The formula that was written as JSON. Raises ValueError for anything else."""
    if isinstance(value, list) and value and value[0] in _FUNCTIONS:
        return value[0], *map(from_json, value[1:])
    if isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{value!r} is no formula")
