"""Settings as fields of a dataclass: their declaration, their types and bounds, and YAML.

Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field
from typing import Any, get_args

from zoo.errors import UsageError
from zoo.names import one_line


@dataclass(frozen=True, slots=True)
class Named:
    """Something of the registry, by name, with arguments for its factory.

    In YAML, and so in a flag, it is ``cross_entropy`` or ``cross_entropy: {label_smoothing: 0.1}``.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, value: Any) -> Named:
        """Make one of what YAML gives.

        Raises:
            ValueError: it is neither a name nor one name with its arguments.
        """
        if isinstance(value, Named):
            return value
        if isinstance(value, str) and value:
            return cls(value)
        if isinstance(value, Mapping) and len(value) == 1:
            ((name, arguments),) = value.items()
            arguments = {} if arguments is None else arguments
            if isinstance(name, str) and isinstance(arguments, Mapping):
                return cls(name, {str(key): held for key, held in arguments.items()})
        raise ValueError("a name, or one name with its arguments, as 'NAME: {ARGUMENT: VALUE}'")

    def plain(self) -> Any:
        """What YAML writes of it."""
        return {self.name: dict(self.arguments)} if self.arguments else self.name


def setting(
    default: Any = MISSING,
    *,
    help: str,
    flags: tuple[str, ...] = (),
    metavar: str | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    count: int | None = None,
    choices: tuple[str, ...] = (),
    free: bool = False,
) -> Any:
    """Declare a setting.

    Args:
        help: the flag's help line.
        flags: the flag's spellings; by default ``--name-of-the-field``.
        least, below, most: the bounds of a number; ``below`` is not reached itself.
        count: how many there are in a list; a list without it is a repeatable flag.
        choices: what text may be.
        free: may differ when a run is resumed, because it does not change the result.
    """
    told = {
        "help": help,
        "flags": flags,
        "metavar": metavar,
        "least": least,
        "below": below,
        "most": most,
        "count": count,
        "choices": choices,
        "free": free,
    }
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=told)
    return field(default=default, metadata=told)


def without_none(kind: Any) -> tuple[Any, bool]:
    """A type without ``None``, and whether it may be ``None``."""
    options = get_args(kind)
    if type(None) in options:
        return next(option for option in options if option is not type(None)), True
    return kind, False


def checked(held: Field[Any], value: Any, kind: Any) -> Any:
    """The value in the type of its field.

    Raises:
        UsageError: it is of another type, or out of bounds.
    """
    kind, optional = without_none(kind)
    if value is None and optional:
        return None
    told = held.metadata
    try:
        value = _converted(value, kind)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{held.name} must be {error}, not {one_line(repr(value), 80)}") from None
    if told["choices"] and value not in told["choices"]:
        raise UsageError(f"{held.name} must be one of {', '.join(told['choices'])}, not {value!r}")
    if told["count"] not in (None, len(value) if isinstance(value, tuple) else None):
        raise UsageError(f"{held.name} must be {told['count']} numbers, not {len(value)}")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float):
            _check_bounds(held, number)
    return value


def _check_bounds(held: Field[Any], number: float) -> None:
    least, below, most = (held.metadata[name] for name in ("least", "below", "most"))
    if not math.isfinite(number) or (least is not None and number < least):
        raise UsageError(f"{held.name} must be at least {least}, not {number}")
    if below is not None and number >= below:
        raise UsageError(f"{held.name} must be below {below}, not {number}")
    if most is not None and number > most:
        raise UsageError(f"{held.name} must be at most {most}, not {number}")


def _converted(value: Any, kind: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise ValueError("true or false")
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValueError("a whole number")
    if kind is float:
        # YAML takes 1e-3 for text, since it has no point.
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                return float(value)
            except ValueError:
                pass
        raise ValueError("a number")
    if kind is str:
        if isinstance(value, str):
            return value
        raise ValueError("text")
    if kind is Named:
        return Named.read(value)
    if kind == dict[str, Any]:
        if isinstance(value, Mapping):
            return {str(key): plain_value(item) for key, item in value.items()}
        raise ValueError("a mapping, as {name: value}")
    if not isinstance(value, list | tuple):
        raise ValueError("a list")
    (inner, _) = get_args(kind)
    return tuple(_converted(item, inner) for item in value)


def plain_value(value: Any) -> Any:
    """What YAML writes of a value."""
    if isinstance(value, Named):
        return value.plain()
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    return value


def parse_yaml(text: str, what: str) -> Any:
    """Read YAML that is plain data.

    Raises:
        UsageError: it is not; ``what`` names it.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(one_line(f"{what} is not plain YAML: {error}")) from error


def format_yaml(value: Any) -> str:
    """Write plain data as YAML, in its own order; in ASCII, since paths may be no proper text."""
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, width=100)
    return text
