"""benchmarks/gpu.py: the record of its outcome, and that it does nothing without a GPU."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
FILE = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def script(load_script):
    return load_script(FILE)


def row(case, candidate, verdict, median):
    facts = {"threads": 1, "gflops": 1.0, "percent_of_gemm": 1.0, "ratio_to_best_rival": None}
    ratios = {"ratio_to_best_builtin": 1.0, "ratio_interval": [1.0, 1.0], "verdict": verdict}
    return {"case": case, "candidate": candidate, "median_ms": median, **facts, **ratios}


def record(**changes):
    rows = [
        row("1", "zoo", "slower", 2.0),
        row("1", "zoo-nhwc", "faster", 1.0),
        row("1", "eager", "same", 1.5),
        row("2", "zoo", "same", 1.0),
    ]
    return {
        "date": "2026-11-29T10:00:00+00:00",
        "commit": "0123456789abcdef",
        "torch": "2.13.0",
        "gpu": {
            "name": "NVIDIA H200", "capability": "9.0", "driver": "580.65", "cuda": "13.0",
            "cudnn": "9.24.0",
        },
        "tests": {"exit_code": 0, "passed": 9, "failed": 0, "skipped": 1, "failures": []},
        "cuda_check": {"arch": "90", "outcome": "passed"},
        "benchmarks": [{"op": "conv2d", "dtype": "float16", "failure": None, "results": rows}],
        **changes,
    }  # fmt: skip


def test_the_paragraph_says_on_what_when_and_with_which_outcome(script):
    assert script.went_well(record())
    text = script.paragraph(record())
    assert text.startswith(
        "**Last verified on hardware: NVIDIA H200 (capability 9.0), 2026-11-29, commit "
        "`0123456789ab`.** `tests/gpu`: 9 passed, 0 failed, 1 skipped. Compile gate on sm_90: "
        "passed. `zoo bench --device cuda`: of 2 cases the quickest of zoo's ways was faster than "
        "the best of PyTorch's in 1, the same in 1, slower in 0. Driver 580.65, CUDA 13.0, "
    )
    assert "\n" not in text
    assert "nothing was timed" in script.paragraph(record(benchmarks=[]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tests": {"exit_code": 1, "passed": 1, "failed": 7, "failures": list("abcdefg")}},
            "Failed: a; b; c; d; e and 2 more.",
        ),
        ({"tests": {"exit_code": 3}}, "`tests/gpu`: 0 passed, 0 failed, 0 skipped."),
        ({"cuda_check": {"arch": "90", "outcome": "failed"}}, "Compile gate on sm_90: failed."),
        (
            {"benchmarks": [{"op": "conv2d", "dtype": "float16", "failure": "zoo wrong on 1",
                             "results": []}]},
            "Failed: conv2d in float16 (zoo wrong on 1).",
        ),
    ],
)  # fmt: skip
def test_failures_are_told(script, changes, message):
    failed = record(**changes)
    assert not script.went_well(failed)
    text = script.paragraph(failed)
    assert text.startswith("**Last run on hardware, and failed: NVIDIA H200")
    assert message in text


def test_a_skipped_gate_is_no_failure(script):
    assert script.went_well(record(cuda_check={"arch": "89", "outcome": "skipped: no budget"}))


JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="2" failures="1" skipped="2">
<testcase classname="" name="test_broken"><error message="collection failure">...</error></testcase>
<testcase classname="" name="test_skipped"><skipped message="collection skipped"/></testcase>
<testcase classname="test_outcomes" name="test_good" time="0.000" />
<testcase classname="test_outcomes" name="test_bad"><failure message="no">...</failure></testcase>
<testcase classname="test_outcomes" name="test_left_out"><skipped message="why"/></testcase>
<testcase classname="test_outcomes" name="test_error"><error message="failed on setup"/></testcase>
</testsuite></testsuites>"""


def test_outcomes_of_pytest_are_counted(script):
    assert script.read_junit(JUNIT) == {
        "passed": 1,
        "failed": 3,
        "skipped": 2,
        "failures": ["test_broken", "test_outcomes.test_bad", "test_outcomes.test_error"],
    }


def test_the_page_has_the_place_for_it(script):
    page = script.PAGE.read_text()
    once = script.put(page, r"ran on \1")
    assert once.count(r"ran on \1") == 1
    assert "Never run on hardware" not in once
    assert script.put(once, "again") == script.put(page, "again")
    assert once.partition(script.END)[2] == page.partition(script.END)[2]
    with pytest.raises(ValueError, match="not one place"):
        script.put("a page", "text")


def test_messages_pass_by_and_the_last_one_stays(script, capfd):
    say = "import sys; print('data'); print('first\\n\\nlast\\n', file=sys.stderr); sys.exit(3)"
    assert script.run([sys.executable, "-c", say]) == (3, "last")
    out, err = capfd.readouterr()
    assert out == ""
    assert "first" in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_is_a_line_and_exit_code_1(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(FILE)])
    before = script.PAGE.read_text(), script.RESULT.exists()
    with pytest.raises(SystemExit) as ended:
        script.main()
    line = ended.value.code  # which Python prints, and exits with 1
    assert line.startswith("no CUDA device: ")
    assert line.endswith("nothing was run and nothing written")
    assert "\n" not in line
    assert (script.PAGE.read_text(), script.RESULT.exists()) == before
