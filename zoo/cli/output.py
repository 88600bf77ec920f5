"""Printing of rows as a table, JSON, CSV or bare names; writing of result files.

Every command imports this, so it imports what few of them need where they need it.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from zoo.errors import UsageError, ZooError
from zoo.files import replacing

Row = Mapping[str, Any]

_GAP = "  "
_CUT = ".."


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        key: the rows' key.
        title: heading; the key if empty.
        show: turns a value that is not None into text.
        right: align to the right, as numbers are.
        shrink: may be cut short where the terminal is too narrow.
    """

    key: str
    title: str = ""
    show: Callable[[Any], str] = str
    right: bool = False
    shrink: bool = False


def human_count(value: float) -> str:
    """Write a count with three digits and a unit: 11689512 -> ``11.7M``."""
    thousands = 0
    # 999.5 would round to the four digits of 1000, so it belongs to the next unit.
    while abs(value) >= 999.5 and thousands < 4:
        value /= 1000
        thousands += 1
    unit = ("", "k", "M", "G", "T")[thousands]
    if not unit and value == int(value):
        return str(int(value))
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}{unit}"


def human_size(shape: Sequence[int]) -> str:
    """Write a shape: (3, 224, 224) -> ``3x224x224``."""
    return "x".join(map(str, shape))


def joined(values: Sequence[Any]) -> str:
    """Write a sequence with commas."""
    return ", ".join(map(str, values))


def format_table(rows: Sequence[Row], columns: Sequence[Column | str], width: int = 0) -> str:
    """Lay rows out under headings.

    Args:
        rows: mappings from column key to value; None and missing values are shown as ``-``.
        columns: what to show, in order. A plain key is left-aligned text.
        width: cut shrinkable columns so that lines fit in so many characters; 0 for no limit.
    """
    layout = [Column(column) if isinstance(column, str) else column for column in columns]
    cells = [[column.title or column.key for column in layout]]
    for row in rows:
        values = [row.get(column.key) for column in layout]
        cells.append(
            [
                "-" if value is None else " ".join(column.show(value).split())
                for column, value in zip(layout, values, strict=True)
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width if width else 0
    while excess > 0:
        # Cut the widest one first; a column keeps its heading and room for a few characters.
        room = [
            size - max(len(cells[0][i]), 8) if layout[i].shrink else 0
            for i, size in enumerate(widths)
        ]
        if max(room) <= 0:
            break
        widest = max((i for i, spare in enumerate(room) if spare > 0), key=widths.__getitem__)
        widths[widest] -= 1
        excess -= 1
    cells.insert(1, ["-" * size for size in widths])
    lines = []
    for line in cells:
        fitted = [
            (text[: size - len(_CUT)] + _CUT if len(text) > size else text)
            for text, size in zip(line, widths, strict=True)
        ]
        padded = [
            text.rjust(size) if column.right else text.ljust(size)
            for text, size, column in zip(fitted, widths, layout, strict=True)
        ]
        lines.append(_GAP.join(padded).rstrip())
    return "\n".join(lines)


def format_csv(rows: Sequence[Row], keys: Iterable[str] = ()) -> str:
    """Write rows as CSV with a header; sequences are joined by ``;``, None is empty.

    ``keys`` come first in the header, which without rows says what there would have been.
    """
    import csv
    import io

    header = list(dict.fromkeys([*keys, *(key for row in rows for key in row)]))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_csv_value(row.get(key)) for key in header])
    return stream.getvalue().rstrip("\n")


def _csv_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return ";".join(map(str, value))
    return value


def format_json(value: Any) -> str:
    """Write JSON that is strictly valid: NaN and infinities become null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def format_rows(
    rows: Sequence[Row],
    format: str,
    columns: Sequence[Column | str],
    keys: Iterable[str] = (),
) -> str:
    """Write rows in one of the formats ``table``, ``json``, ``csv``, ``names``.

    ``columns`` rule the table alone: programs get every key of the rows, and where there are
    none, ``keys`` as the header of the CSV. ``names`` is the key ``name`` of each row, one a line.
    """
    if format == "json":
        return format_json(rows)
    if format == "csv":
        return format_csv(rows, keys) if rows or keys else ""
    if format == "names":
        return "\n".join(row["name"] for row in rows)
    if not rows:
        return ""
    width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    return format_table(rows, columns, width)


def print_rows(
    rows: Sequence[Row],
    format: str,
    columns: Sequence[Column | str],
    keys: Iterable[str] = (),
) -> None:
    """Print rows to stdout (see :func:`format_rows`); no rows are no table."""
    text = format_rows(rows, format, columns, keys)
    if text:
        # One call: click flushes within it, so that a closed pipe is noticed here and not by
        # the interpreter when it exits.
        click.echo(text)


def check_output_file(path: Path | None, force: bool) -> None:
    """Refuse a result file that exists or cannot be made, before any work is done for it."""
    if path is None:
        return
    if path.exists() and not force:
        raise UsageError(f"{path} exists: choose another name or add --force")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist")


def write_file(path: Path, data: str | bytes) -> None:
    """Write a result file whole or not at all: to a temporary name, then renamed."""
    # File names that are not text in the locale come with surrogates.
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(raw)
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror}") from error


def note(message: str) -> None:
    """Print a line of progress or advice to stderr."""
    click.echo(message, err=True)


@contextmanager
def noted_warnings() -> Iterator[None]:
    """Tell the warnings of a block on stderr, such as that a model runs as it is."""
    with warnings.catch_warnings(record=True, category=UserWarning, action="always") as caught:
        yield
    for warning in caught:
        note(f"Warning: {warning.message}")
