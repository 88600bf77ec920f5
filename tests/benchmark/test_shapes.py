import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zoo.benchmark.problem import Problem
from zoo.benchmark.shapes import (
    CONV_OPS,
    OPS,
    POOLS,
    SETS,
    WINDOW_OPS,
    Case,
    cases_of_set,
    parse_case,
)
from zoo.errors import UsageError


@st.composite
def cases(draw: st.DrawFn) -> Case:
    op = draw(st.sampled_from(OPS))
    size = st.integers(1, 9)
    groups = draw(st.integers(1, 3)) if op in CONV_OPS else 1
    if op == "linear":
        batch, channels, out = (draw(st.integers(1, 40)) for _ in range(3))
        return Case(op, batch, channels, out_channels=out)
    if op not in WINDOW_OPS:
        sizes = draw(st.tuples(st.integers(1, 2), st.integers(1, 3), size, size))
        return Case(op, *sizes, result=draw(size))
    kernel = draw(st.integers(1, 5))
    case = Case(
        op,
        draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 3)),
        draw(size),
        draw(size),
        kernel,
        draw(st.integers(1, 3)),
        draw(st.integers(0, kernel // 2)),
        out_channels=groups * draw(st.integers(1, 3)) if op in CONV_OPS else 0,
        groups=groups,
        pool=draw(st.sampled_from(sorted(POOLS))) if op == "conv2d_pool" else None,
    )
    assume(min(case.height, case.width) + 2 * case.padding >= kernel)
    assume(min(case.output_shape[2:]) >= 1)
    return case


@settings(deadline=None)  # other processes share the machine
@given(cases())
def test_a_case_is_written_as_it_is_read(case):
    assert parse_case(case.op, str(case)) == case


@settings(deadline=None)  # other processes share the machine
@given(cases())
def test_the_predicted_shape_is_what_pytorch_computes(case):
    problem = Problem.make(case, torch.float32, "none")
    assert tuple(problem.reference.shape) == case.output_shape


def test_flops_count_the_multiply_adds_of_the_direct_convolution():
    assert parse_case("conv2d", "1,64,56,56,64,3,1,1").flops == 2 * 64 * 64 * 9 * 56 * 56
    assert parse_case("conv2d", "2,8,4,4,8,3,1,1,8").flops == 2 * 2 * 8 * 9 * 16
    assert parse_case("max_pool2d", "1,4,8,8,2,2,0").flops == 4 * 16 * 4
    assert parse_case("adaptive_avg_pool2d", "2,4,8,8,4").flops == 2 * 4 * 64
    assert parse_case("adaptive_avg_pool2d", "1,4,10,7,7").flops == 4 * 16 * 7  # rows seen twice
    assert parse_case("linear", "8,64,10").flops == 2 * 8 * 64 * 10
    pooled = parse_case("conv2d_pool", "1,8,8,8,8,3,1,1")
    assert pooled.pool == "max2"
    assert pooled.flops == parse_case("conv2d", "1,8,8,8,8,3,1,1").flops


@pytest.mark.parametrize(
    ("op", "text", "message"),
    [
        ("conv2d", "1,2,3", "3 numbers, but conv2d takes N,C,H,W,O,K,S,P"),
        ("conv2d", "1,8,8,8,8,3,1,x", "whole numbers"),
        ("conv2d", "", "whole numbers"),
        ("conv2d", "0,8,8,8,8,3,1,1", "at least 1"),
        ("conv2d", "1,8,8,8,0,3,1,1", "at least 1"),
        ("conv2d", "1,8,8,8,8,3,0,1", "at least 1"),
        ("conv2d", "1,8,8,8,8,3,1,-1", "negative"),
        ("conv2d", f"1,8,8,8,8,3,{2**31},1", "below"),
        ("conv2d", "1,8,8,8,8,3,1,1,3", "must divide"),
        ("conv2d", "1,8,2,2,8,5,1,0", "empty"),
        ("conv2d", "1,8,8,8,8,3,1,1+max2", "conv2d takes"),
        ("conv2d_pool", "1,8,8,8,8,3,1,1+max9", "conv2d_pool takes"),
        ("conv2d_pool", "1,8,1,1,8,1,1,0+max2", "empty"),
        ("max_pool2d", "1,8,8,8,2,2,2", "half"),
        ("avg_pool2d", "1,8,8,8,8,3,1,1", "8 numbers"),
    ],
)
def test_a_wrong_shape_says_what_is_wrong(op, text, message):
    with pytest.raises(UsageError, match=message):
        parse_case(op, text)


@pytest.mark.parametrize("op", OPS)
def test_sets_hold_valid_and_distinct_cases(op):
    all_cases = cases_of_set(op, "all")
    assert len(set(all_cases)) == len(all_cases)
    assert all(case.batch == 1 for case in all_cases)
    batched = cases_of_set(op, "all", (1, 4))
    assert len(batched) == 2 * len(all_cases)
    assert batched[len(all_cases)].batch == 4
    for name in SETS[op]:
        assert set(cases_of_set(op, name)) <= set(all_cases)


def test_a_set_without_cases_of_an_op_says_which_have_some():
    with pytest.raises(UsageError, match="sets for it: resnet, vgg, cifar"):
        cases_of_set("conv2d_pool", "mobilenet")


def test_the_reference_is_convolution_activation_and_pool_in_float64():
    case = parse_case("conv2d_pool", "2,4,9,9,6,3,1,1,2+max3s2")
    problem = Problem.make(case, torch.float32, "relu6")
    output = F.conv2d(
        problem.input.double(), problem.weight.double(), problem.bias.double(), padding=1, groups=2
    )
    expected = F.max_pool2d(output.clamp(0, 6), 3, 2, 1)
    torch.testing.assert_close(problem.reference, expected, rtol=1e-12, atol=1e-12)
