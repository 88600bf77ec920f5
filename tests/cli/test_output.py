"""Tables, units, CSV, JSON, result files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.cli.output import (
    Column,
    check_output_file,
    format_csv,
    format_json,
    format_rows,
    format_table,
    human_count,
    write_file,
)
from zoo.errors import UsageError, ZooError


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (999.6, "1.00k"), (1000, "1.00k"), (11689512, "11.7M"),
     (1.8e9, "1.80G"), (999_499, "999k"), (999_500, "1.00M"), (25.6e6, "25.6M"),
     (9_996, "10.0k"), (99_960, "100k"), (2.5e12, "2.50T"), (2.5e15, "2500T"), (0.5, "0.50")],
)  # fmt: skip
def test_human_count(value: float, text: str) -> None:
    assert human_count(value) == text


@given(st.integers(1, 10**14))
def test_human_count_keeps_three_digits(value: int) -> None:
    text = human_count(value)
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    shown = float(text.rstrip("kMGT")) * scale.get(text[-1], 1)
    assert math.isclose(shown, value, rel_tol=0.0051)
    assert len(text.rstrip("kMGT").replace(".", "")) <= 3


def test_table_aligns() -> None:
    rows = [{"name": "a", "n": 5}, {"name": "long", "n": None}, {"name": "b", "n": 1234}]
    columns = ["name", Column("n", title="count", right=True)]
    assert format_table(rows, columns).splitlines() == [
        "name  count",
        "----  -----",
        "a         5",
        "long      -",
        "b      1234",
    ]


def test_table_is_cut_to_the_width_where_that_is_allowed() -> None:
    rows = [{"a": "x" * 30, "b": "y" * 20, "c": "z" * 10}]
    columns = [Column("a", shrink=True), Column("b", shrink=True), Column("c")]
    lines = format_table(rows, columns, width=40).splitlines()
    assert max(map(len, lines)) == 40
    assert lines[2].endswith("zzzzzzzzzz")
    assert "xx.." in lines[2]
    # Below what makes sense the lines are left too long rather than emptied.
    assert "xxxxxx.." in format_table(rows, columns, width=5)


def test_values_with_line_ends_do_not_break_tables() -> None:
    assert len(format_table([{"a": "one\ntwo\t three"}], ["a"]).splitlines()) == 3


cells = st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(st.lists(st.fixed_dictionaries({"a": cells, "b": cells}), min_size=1))
def test_csv_reads_back(rows: list[dict[str, object]]) -> None:
    back = list(csv.DictReader(io.StringIO(format_csv(rows) + "\n")))
    assert back == [
        {key: "" if value is None else str(value) for key, value in row.items()} for row in rows
    ]


def test_csv_of_sequences() -> None:
    assert format_csv([{"a": (1, 2), "b": {"k": 1}}]) == 'a,b\n1;2,"{""k"": 1}"'


def test_json_is_strict() -> None:
    value = {"nan": math.nan, "inf": [math.inf, -math.inf], "ok": 0.5, "shape": (1, 2)}
    assert json.loads(format_json(value)) == {
        "nan": None,
        "inf": [None, None],
        "ok": 0.5,
        "shape": [1, 2],
    }


def test_formats_without_rows() -> None:
    assert format_rows([], "json", ["a"]) == "[]"
    assert [format_rows([], form, ["a"]) for form in ("table", "csv", "names")] == ["", "", ""]
    assert format_rows([], "csv", ["a"], ["a", "b"]) == "a,b"
    assert format_rows([{"b": 1, "a": 2}], "csv", [], ["a", "b"]) == "a,b\n2,1"


def test_write_file_is_atomic_and_respects_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    previous = os.umask(0o027)
    try:
        write_file(path, "one")
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o640
    write_file(path, b"two")
    assert path.read_text() == "two"
    assert os.listdir(tmp_path) == ["out.json"]


def test_write_file_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ZooError, match="cannot write"):
        write_file(tmp_path / "taken", "text")
    assert os.listdir(tmp_path) == ["taken"]
    with pytest.raises(ZooError, match="cannot write"):
        write_file(tmp_path / "missing" / "out", "text")


def test_existing_output_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "out"
    check_output_file(None, force=False)
    check_output_file(path, force=False)
    path.touch()
    with pytest.raises(UsageError, match="--force"):
        check_output_file(path, force=False)
    check_output_file(path, force=True)
    with pytest.raises(UsageError, match="does not exist"):
        check_output_file(tmp_path / "missing" / "out", force=True)
