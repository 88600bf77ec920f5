"""An earlier result beside this one: what is compared, what is said, what is refused."""

import json
from copy import deepcopy

import pytest

from zoo.benchmark.history import History, compared_rows, history_lines, place_of
from zoo.errors import UsageError

HEADER = {
    "op": "conv2d",
    "cpu_capability": None,
    "date": "2026-11-24T12:00:00+00:00",
    "commit": "3fabe99dc42781519714ceb586c4176d1e8a7d38",
    "command": "zoo bench --op conv2d --set all --output old.json",
    "cpu": "AMD EPYC",
    "cpus": 2,
    "caches": {"L1 Data": "32K"},
    "processes": [
        {"threads": 1, "torch": "2.13.0", "onednn": "3.7", "zoo_capability": "avx2"},
    ],
}


def row(candidate, median_ms, case="1,8,8,8,8,3,1,1", **others):
    return {
        "op": "conv2d",
        "case": case,
        "candidate": candidate,
        "threads": 1,
        "dtype": "float32",
        "activation": "relu",
        "weights": "hot",
        "median_ms": median_ms,
        "builtin": candidate in ("eager", "onednn"),
        **others,
    }


def written(path, results, header=HEADER):
    path.write_text(json.dumps({"header": header, "results": results}))
    return path


def test_times_and_ratios_to_the_builtins_of_both_runs(tmp_path):
    old = [row("zoo", 1.0), row("eager", 2.0), row("onednn", 0.5)]
    new = [row("zoo", 2.0), row("eager", 3.0), row("zoo-packed", 1.0)]
    History.read(written(tmp_path / "old.json", old)).compare(new, HEADER)
    ours, eager, packed = new
    assert ours["old_median_ms"] == 1.0
    assert ours["speedup"] == 0.5
    # onednn was quicker, but did not take part again.
    assert (ours["ratio_then"], ours["ratio_now"]) == (2.0, 1.5)
    assert ours["ratio_change"] == 0.75
    assert eager["speedup"] == pytest.approx(2 / 3)
    assert eager["ratio_change"] == 1
    assert "speedup" not in packed


def test_without_a_common_builtin_the_times_alone_are_compared(tmp_path):
    new = [row("zoo", 2.0), row("onednn", 1.0)]
    old = [row("zoo", 1.0), row("eager", 2.0)]
    History.read(written(tmp_path / "old.json", old)).compare(new, HEADER)
    assert new[0]["speedup"] == 0.5
    assert "ratio_change" not in new[0]
    assert compared_rows(new) == [new[0]]


@pytest.mark.parametrize(
    "other",
    [
        {"op": "conv2d_pool"},
        {"case": "2,8,8,8,8,3,1,1"},
        {"threads": 2},
        {"dtype": "float64"},
        {"activation": "none"},
        {"weights": "cold"},
    ],
)
def test_rows_of_other_work_are_not_compared(tmp_path, other):
    history = History.read(written(tmp_path / "old.json", [row("zoo", 1.0, **other)]))
    new = [row("zoo", 1.0)]
    history.compare(new, HEADER)
    assert "speedup" not in new[0]
    with pytest.raises(UsageError, match="none of these cases, threads and options: it holds zoo"):
        history.check([place_of(new[0], HEADER)])


def test_nor_those_of_another_cpu_capability(tmp_path):
    history = History.read(written(tmp_path / "old.json", [row("zoo", 1.0)]))
    place = place_of(row("zoo", 1.0), {**HEADER, "cpu_capability": "scalar"})
    with pytest.raises(UsageError, match="it holds zoo bench --op conv2d --set all"):
        history.check([place])
    history.check([place, place_of(row("zoo", 1.0), HEADER)])


def test_older_files_lack_options_that_had_one_value(tmp_path):
    header = {"op": "max_pool2d"}
    old = row("zoo", 1.0, op="max_pool2d", activation=None)
    for key in ("weights", "dtype", "builtin"):
        del old[key]
    history = History.read(written(tmp_path / "old.json", [old], header))
    new = [row("zoo", 0.5, op="max_pool2d", activation="none")]
    history.check([place_of(new[0], HEADER)])
    history.compare(new, HEADER)
    assert new[0]["speedup"] == 2
    described = history.describe(HEADER)
    assert described["differences"] == []
    assert "an unknown date, commit unknown" in history_lines(described, new)[0]


def test_those_that_lost_most_come_first(tmp_path):
    cases = {"1,1,1,1,1,1,1,0": 2.0, "1,2,1,1,1,1,1,0": 0.5, "1,3,1,1,1,1,1,0": 1.0}
    old = [row(name, 1.0, case) for case in cases for name in ("zoo", "eager", "ncnn")]
    new = [row("zoo", median, case) for case, median in cases.items()]
    new += [row(name, 2.0, case) for case in cases for name in ("eager", "ncnn")]
    history = History.read(written(tmp_path / "old.json", old))
    history.compare(new, HEADER)
    assert [line["median_ms"] for line in compared_rows(new)] == [2.0, 1.0, 0.5]
    assert "builtins: 0.50 times their speed of then (geometric mean of 3 rows)" in "\n".join(
        history_lines(history.describe(HEADER), new)
    )


def test_differences_of_machine_and_versions_are_named(tmp_path):
    history = History.read(written(tmp_path / "old.json", [row("zoo", 1.0)]))
    assert history.describe(HEADER)["differences"] == []
    header = deepcopy(HEADER)
    header["cpu"] = "Intel Xeon"
    header["processes"][0] |= {"torch": "2.14.1", "zoo_capability": "avx512"}
    described = history.describe(header)
    assert described["differences"] == [
        "the processor was AMD EPYC, is Intel Xeon",
        "torch was 2.13.0, is 2.14.1",
        "zoo's CPU capability was avx2, is avx512",
    ]
    first, second = history_lines(described, [])
    assert "2026-11-24T12:00:00+00:00, commit 3fabe99dc427;" in first
    assert second.startswith("Then and now differ: the processor was AMD EPYC, is Intel Xeon; ")


GOOD = {"header": HEADER, "results": [row("zoo", 1.0)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("case,threads\n1,2\n", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds no results"),
        ("{}", "holds no results"),
        ('{"header": {}, "results": []}', "holds no results"),
        ('{"header": {"op": "conv2d"}, "results": []}', "holds no results"),
        ('{"header": {"op": "conv2d"}, "results": [1]}', "holds no results"),
        ('{"header": {"op": "conv2d"}, "results": [{"candidate": "zoo"}]}', "holds no results"),
        (json.dumps({**GOOD, "results": [row("zoo", None)]}), "holds no results"),
        (json.dumps({**GOOD, "results": [row("zoo", 0)]}), "holds no results"),
        (json.dumps({**GOOD, "results": [row("zoo", 1.0, weights=["hot"])]}), "holds no results"),
        (json.dumps({**GOOD, "header": {**HEADER, "op": None}}), "holds no results"),
        (json.dumps({**GOOD, "header": {**HEADER, "commit": 3}}), "holds no results"),
        (json.dumps({**GOOD, "header": {**HEADER, "processes": [1]}}), "holds no results"),
    ],
)
def test_other_files_are_a_line(tmp_path, text, message):
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        History.read(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match="is not JSON"):
        History.read(path)
    with pytest.raises(UsageError, match=r"none\.json: No such file"):
        History.read(tmp_path / "none.json")
