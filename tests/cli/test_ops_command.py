"""``zoo ops``: what it explains, and what it refuses."""

from __future__ import annotations

import json

import pytest

from zoo import ops


def test_activation_decides_whether_packing_at_each_call_pays(zoo):
    """PyTorch's own is quicker for the plain convolution, but passes over it again for a SiLU."""
    case = ("--explain", "conv2d", "1,64,56,56,96,3,2,1")
    result = zoo("ops", *case, "--activation", "silu", "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["implementation"] for row in rows if row["chosen"]] == ["gemm"]
    assert all(row["measured_ms"] > 0 for row in rows[-2:])
    plain = ops.explain_conv2d((1, 64, 56, 56), (96, 64, 3, 3), 2, 1)
    assert [row["implementation"] for row in plain if row["chosen"]] == ["aten"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv2d", "1,2,3"), "--explain conv2d 1,2,3: 3 numbers, but conv2d takes N,C,H,W,O"),
        (("conv2d", "1,8,9,x,8,3,1,1"), "expected whole numbers N,C,H,W,O,K,S,P[,G]"),
        (("conv2d", "1,8,9,9,8,3,1,1,3"), "3 groups must divide the channels in and out"),
        (("conv2d", "1,8,2,2,8,3,1,0"), "the output would be empty"),
        (("conv2d", f"1,8,9,9,8,3,{2**63},1"), "numbers must be below 2**31"),
        (("max_pool2d", "1,8,2,2,8,3,1,0"), "--explain knows conv2d only"),
    ],
    ids=str,
)
def test_wrong_cases_are_one_line_and_exit_2(zoo, arguments, message):
    result = zoo("ops", "--explain", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "--shape" not in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "case", ["1,1000000,100000,100000,8,3,1,1", "1000000000,1000000000,9,9,1000000000,3,1,1"]
)
def test_memory_that_cannot_be_had_is_one_line(zoo, case):
    result = zoo("ops", "--explain", "conv2d", case)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: conv2d {case} takes ")
    assert result.stderr.endswith("GiB are free: choose a smaller case\n")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "option",
    [
        ("--packed",),
        ("--channels-last",),
        ("--dtype", "float32"),
        ("--activation", "none"),
        ("--precision", "exact"),
    ],
    ids=" ".join,
)
def test_options_of_explain_are_refused_without_it(zoo, option):
    result = zoo("ops", *option)
    assert result.exit_code == 2
    assert result.stderr == f"Error: {option[0]} belongs to --explain: say which case to explain\n"
    assert result.stdout == ""
