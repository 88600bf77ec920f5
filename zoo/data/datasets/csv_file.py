"""Images listed in a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zoo.data.datasets.base import ImageFiles, Transform
from zoo.data.datasets.folder import SPLITS
from zoo.errors import DataError, UsageError
from zoo.names import one_line

PATH_COLUMNS = ("path", "image", "file", "filename")
LABEL_COLUMNS = ("label", "class")
SPLIT_COLUMN = "split"


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    path: str
    label: str
    split: str


class CsvFile(ImageFiles):
    """Images that a CSV file with a header lists, one a line.

    The column ``path`` (or ``image``, ``file``, ``filename``) has the file, relative to the folder
    of the CSV file; ``label`` (or ``class``) the name of its class; ``split``, if there is one, the
    split. Without it all images are the split ``train``. Other columns do not count. Columns are
    separated by commas, semicolons or tabs. Classes are the labels of all splits, sorted: by value
    where all of them are whole numbers.

    Args:
        root: the CSV file.
        split: ``"train"``, ``"val"``, ``"validation"`` or ``"test"``.
        transform: of the opened image.

    Raises:
        UsageError: there is no such file or split.
        DataError: a column, a label or an image is missing; the message names the line.
    """

    def __init__(
        self,
        *,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transform: Transform | None = None,
    ) -> None:
        file, rows = _read(root)
        splits = _splits(rows)
        if split not in splits:
            raise UsageError(f"{file} has no split {split!r}; there are {', '.join(splits)}")
        folder = os.path.dirname(file)
        chosen = [row for row in rows if row.split == split]
        paths = [os.path.join(folder, os.path.expanduser(row.path)) for row in chosen]
        gone = [row for row, path in zip(chosen, paths, strict=True) if not os.path.isfile(path)]
        if gone:
            more = f", nor those of {len(gone) - 1} more lines" if len(gone) > 1 else ""
            raise DataError(
                f"{file}, line {gone[0].line}: there is no file {gone[0].path!r} in "
                f"{folder or '.'}{more}: paths are relative to the CSV file"
            )
        classes = _sorted_labels({row.label for row in rows})
        index = {label: number for number, label in enumerate(classes)}
        super().__init__(paths, [index[row.label] for row in chosen], classes, transform)

    @staticmethod
    def find_splits(root: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """Return the splits that a file names."""
        return _splits(_read(root)[1])


def _read(root: str | os.PathLike[str] | None) -> tuple[str, list[_Row]]:
    """Return the name of the file, and its rows."""
    if root is None:
        raise UsageError(
            "which CSV file? name it as the data set, or give it as root (--data-dir on the "
            "command line)"
        )
    file = os.path.expanduser(root)
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            return file, list(_rows(file, stream))
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {file}") from error
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file} is not a CSV file in UTF-8 ({one_line(error)}): save it as such"
        ) from error


def _rows(file: str, stream: Iterator[str]) -> Iterator[_Row]:
    header = next(stream, "")
    separator = max(",;\t", key=header.count)
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=separator), [])]
    path = _column(file, names, PATH_COLUMNS)
    label = _column(file, names, LABEL_COLUMNS)
    split = names.index(SPLIT_COLUMN) if SPLIT_COLUMN in names else None
    reader = csv.reader(stream, delimiter=separator)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        line = reader.line_num + 1
        image, name = (cells[i].strip() if i < len(cells) else "" for i in (path, label))
        of = "train" if split is None else cells[split].strip() if split < len(cells) else ""
        for value, what in ((image, "image"), (name, "label"), (of, "split")):
            if not value:
                raise DataError(f"{file}, line {line} has no {what}: fill it in or delete the line")
        if of not in SPLITS:
            raise DataError(
                f"{file}, line {line}: the split {of!r} is not one of {', '.join(SPLITS)}"
            )
        yield _Row(line, image, name, of)


def _column(file: str, names: Sequence[str], known: Sequence[str]) -> int:
    for name in known:
        if name in names:
            return names.index(name)
    raise DataError(
        f"{file} has no column {' or '.join(known)}: its first line must name the columns "
        f"(it names {', '.join(filter(None, names)) or 'none'})"
    )


def _splits(rows: Sequence[_Row]) -> tuple[str, ...]:
    named = {row.split for row in rows}
    return tuple(split for split in SPLITS if split in named) or ("train",)


def _sorted_labels(labels: set[str]) -> list[str]:
    try:
        return sorted(labels, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(labels)
