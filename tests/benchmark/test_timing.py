import contestants
import numpy as np
import pytest
import torch

from zoo.benchmark.candidates import OURS, RIVALS, Candidate, choose
from zoo.benchmark.machine import last_cache_bytes
from zoo.benchmark.names import ACTIVATIONS
from zoo.benchmark.names import OURS as OUR_NAMES
from zoo.benchmark.names import RIVALS as RIVAL_NAMES
from zoo.benchmark.problem import ACTIVATIONS as TORCH_ACTIVATIONS
from zoo.benchmark.problem import Problem
from zoo.benchmark.shapes import parse_case
from zoo.benchmark.timing import (
    Plan,
    calibrate,
    enough,
    measure_case,
    rounds_to_keep,
    time_interleaved,
    verdict,
)
from zoo.benchmark.worker import copies_to_rotate

QUICK = Plan(rounds=5, block_s=0.0005, patience=1)
EAGER, EAGER_NHWC = RIVALS[0], RIVALS[1]


@pytest.fixture(autouse=True)
def _one_thread():
    """Two threads that wait for each other on a busy machine take any time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def problem(op="conv2d", shape="1,8,8,8,8,3,1,1", dtype=torch.float32, activation="relu"):
    return Problem.make(parse_case(op, shape), dtype, activation)


def measure(*candidates: Candidate, plan=QUICK, **options):
    with torch.inference_mode():
        return measure_case(problem(**options), candidates, plan)


def test_the_tables_of_names_and_of_candidates_agree():
    assert [candidate.name for candidate in OURS] == list(OUR_NAMES)
    assert [candidate.name for candidate in RIVALS] == list(RIVAL_NAMES)
    assert all(candidate.builtin for candidate in RIVALS)
    assert not any(candidate.builtin for candidate in OURS)
    assert list(TORCH_ACTIVATIONS) == list(ACTIVATIONS)


@pytest.mark.parametrize(
    ("candidate", "least_error"),
    [
        (contestants.WRONG, 5e-4),
        (contestants.LOW_PRECISION, 1.01e-4),
        (contestants.NO_NAN, float("inf")),
        (contestants.MISSHAPEN, float("inf")),
    ],
)
def test_the_gate_stops_a_wrong_candidate_and_names_its_error(candidate, least_error):
    outcome = measure(EAGER, candidate)
    assert [row["candidate"] for row in outcome.results] == ["eager"]
    (row,) = outcome.not_timed
    assert row["candidate"] == candidate.name
    assert row["status"] == "wrong"
    assert row["error"] >= least_error
    assert row["case"] == "1,8,8,8,8,3,1,1"


def test_the_gate_is_as_narrow_in_float64_as_float64_is():
    def in_float32(problem):
        run = EAGER.build(problem)
        return lambda: run().float().double()

    outcome = measure(EAGER, Candidate("single", in_float32), dtype=torch.float64)
    assert [row["candidate"] for row in outcome.not_timed] == ["single"]


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("conv2d", "1,8,8,8,8,3,1,1"),
        ("conv2d_pool", "1,8,8,8,8,3,1,1+max2"),
        ("linear", "3,30,40"),
        ("avg_pool2d", "1,8,8,8,2,2,0"),
    ],
)
def test_the_backward_error_holds_each_output_to_its_own_terms(op, shape):
    task = problem(op, shape, torch.float64, activation="none")
    absolute = [tensor.abs() for tensor in (task.input, task.weight, task.bias)]
    magnitude = task.plain(*absolute)
    place = np.unravel_index(int(magnitude.argmin()), magnitude.shape)
    output = task.reference.clone()
    output[place] += 1e-3 * magnitude[place]
    assert task.backward_error_of(output) == pytest.approx(1e-3)
    assert task.backward_error_of(task.reference) == 0


def test_a_candidate_that_goes_wrong_later_is_not_among_the_results():
    outcome = measure(EAGER, contestants.DRIFTING)
    assert [row["candidate"] for row in outcome.results] == ["eager"]
    assert outcome.not_timed[0]["reason"].endswith("after many calls")


def test_failing_and_declining_candidates_are_listed_with_their_reason():
    outcome = measure(contestants.RAISING, contestants.PICKY, EAGER)
    found = {row["candidate"]: (row["status"], row["reason"]) for row in outcome.not_timed}
    assert found == {
        "raising": ("failed", "RuntimeError: out of paper"),
        "picky": ("skipped", "it is not in the mood"),
    }
    assert len(outcome.results) == 1


def test_without_anybody_to_time_there_are_no_results_and_no_control():
    outcome = measure(contestants.RAISING)
    assert outcome.results == []
    assert outcome.control is None


def test_rows_agree_with_their_samples():
    outcome = measure(EAGER, EAGER_NHWC, contestants.SLOW)
    by_name = {row["candidate"]: row for row in outcome.results}
    best = min(row["median_ms"] for row in outcome.results if row["builtin"])
    for row in by_name.values():
        assert len(row["samples_ms"]) == QUICK.rounds
        assert row["median_ms"] == pytest.approx(np.median(row["samples_ms"]))
        assert row["min_ms"] == pytest.approx(min(row["samples_ms"]))
        flops = parse_case("conv2d", row["case"]).flops
        assert row["gflops"] == pytest.approx(flops / row["median_ms"] / 1e6)
        assert row["ratio_to_best_builtin"] == pytest.approx(best / row["median_ms"])
        assert row["verdict"] in ("slower", "same", "faster")
    # It sleeps a hundred times as long as the convolution takes.
    assert by_name["slow"]["ratio_to_best_builtin"] < 1
    assert outcome.control["candidate"] in ("eager", "eager-nhwc")
    assert outcome.control["resolution"] >= 1


def test_without_a_builtin_there_is_no_ratio():
    (row,) = measure(contestants.SLOW).results
    assert row["ratio_to_best_builtin"] is None
    assert row["verdict"] is None


def test_no_win_is_claimed_inside_the_resolution():
    assert verdict(1.02, 1.06, resolution=1.03) == "same"
    assert verdict(1.04, 1.06, resolution=1.03) == "faster"
    assert verdict(0.90, 0.99, resolution=1.03) == "same"
    assert verdict(0.90, 0.96, resolution=1.03) == "slower"


def test_cold_weights_are_copies_used_in_turn():
    used = []

    def build(problem):
        run = EAGER.build(problem)

        def noting():
            used.append(problem.weight.data_ptr())
            return run()

        return noting

    cold = Plan(rounds=5, block_s=0.0005, patience=1, copies=3)
    fixed = Candidate("fixed", EAGER.build, rotates=False)
    outcome = measure(Candidate("cold", build), fixed, EAGER, plan=cold)
    assert [row["candidate"] for row in outcome.results] == ["cold", "eager"]
    assert [row["candidate"] for row in outcome.not_timed] == ["fixed"]
    assert len(set(used)) == 3
    assert used[3:6] == used[:3]


def test_copies_of_a_weight_fill_the_last_cache_twice_within_bounds():
    half = last_cache_bytes() // 2
    assert last_cache_bytes() >= 1 << 20
    assert copies_to_rotate(half) in (4, 5)
    assert copies_to_rotate(1) == 64
    assert copies_to_rotate(100 * half) == 2


def test_blocks_are_long_enough_and_rounds_interleaved():
    ran = []
    runs = {name: lambda name=name: ran.append(name) for name in "abc"}
    calls, _ = calibrate(runs["a"], 0.001)
    assert calls > 100  # appending takes far less than 10 microseconds
    ran.clear()
    plan = Plan(rounds=6, patience=1)
    timings = time_interleaved(runs, dict.fromkeys("abc", 2), plan)
    rounds = [ran[start : start + 9] for start in range(0, len(ran), 9)]
    assert len(rounds) == 6
    # Each round has one block of each: an untimed call and two timed ones.
    assert all(sorted(order) == list("aaabbbccc") for order in rounds)
    assert all(order[0] == order[1] == order[2] != order[3] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1
    assert {len(samples) for samples in timings.samples.values()} == {6}


def test_disturbed_rounds_are_repeated_until_patience_ends():
    plan = Plan(rounds=3, patience=2)
    assert not enough([0, 5, 0, 9], plan)
    assert enough([0, 5, 0, 9, 1], plan)
    assert not enough([5, 5, 5, 5, 5], plan)
    assert enough([5, 5, 5, 5, 5, 5], plan)


def test_undisturbed_rounds_count_before_the_least_disturbed_ones():
    assert rounds_to_keep([0, 5, 0.9, 9, 2, 0.5], 3) == [0, 2, 5]
    assert rounds_to_keep([4, 0, 9, 2, 8, 7], 3) == [0, 1, 3]


@pytest.mark.parametrize(
    "candidate", [c for c in choose("conv2d", list(RIVAL_NAMES)) if c.name != "inductor"]
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("conv2d", "2,16,9,11,32,3,1,1"),
        ("conv2d", "1,8,9,9,8,5,2,2,8"),
        ("conv2d_pool", "1,16,14,14,16,3,1,1+max3s2"),
        ("conv2d_pool", "1,16,14,14,16,3,1,1+avg2"),
    ],
)
def test_every_candidate_does_the_same_work(candidate, activation, op, shape):
    task = problem(op, shape, activation=activation)
    reason = candidate.declines(task)
    if reason:
        pytest.skip(reason)
    with torch.inference_mode():
        assert task.passes(task.error_of(candidate.build(task)()))


@pytest.mark.parametrize(
    "candidate", [c for c in choose("max_pool2d", list(RIVAL_NAMES)) if c.name != "inductor"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("max_pool2d", "2,16,9,11,3,2,1"),
        ("avg_pool2d", "2,16,9,11,3,2,1"),
        ("adaptive_avg_pool2d", "2,16,9,11,4"),
    ],
)
def test_every_candidate_pools_alike(candidate, dtype, op, shape):
    if op not in candidate.ops:
        pytest.skip(f"{candidate.name} does not compete in {op}")
    task = problem(op, shape, dtype=dtype)
    reason = candidate.declines(task)
    if reason:
        pytest.skip(reason)
    with torch.inference_mode():
        assert task.passes(task.error_of(candidate.build(task)()))


@pytest.mark.parametrize("candidate", choose("linear", ["eager", "onednn", "nnpack", "openvino"]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_candidate_computes_the_linear_layer(candidate, dtype):
    assert candidate.name in ("zoo-packed", "eager", "onednn")
    task = problem("linear", "3,300,40", dtype)
    reason = candidate.declines(task)
    if reason:
        pytest.skip(reason)
    assert candidate.explain(task) in (None, "gemm")
    with torch.inference_mode():
        assert task.passes(task.error_of(candidate.build(task)()))


def test_inductor_does_the_same_work():
    *_, inductor = choose("conv2d_pool", ["inductor"])
    task = problem("conv2d_pool", "1,16,14,14,16,3,1,1+max2")
    reason = inductor.declines(task)
    if reason:
        pytest.skip(reason)
    with torch.inference_mode():
        assert task.passes(task.error_of(inductor.build(task)()))


def test_exact_takes_part_where_the_default_is_winograd_and_is_more_exact():
    *_, packed, exact = (c for c in OURS if "conv2d" in c.ops)
    for op, shape in (
        ("conv2d", "1,64,28,28,64,3,1,1"),
        ("conv2d_pool", "1,64,28,28,64,3,1,1+max2"),
    ):
        task = problem(op, shape)
        assert exact.declines(task) is None
        assert packed.explain(task).startswith("winograd")
        assert exact.explain(task) == "gemm"
        with torch.inference_mode():
            errors = [task.error_of(candidate.build(task)()) for candidate in (packed, exact)]
        assert errors[1] < errors[0] / 2
    for shape in ("1,64,28,28,64,3,2,1", "1,8,8,8,8,3,1,1"):
        assert "exact itself" in exact.declines(problem(shape=shape))
    assert "exact itself" in exact.declines(
        problem(shape="1,64,28,28,64,3,1,1", dtype=torch.float64)
    )


def test_chosen_rivals_keep_the_order_of_the_table():
    names = [candidate.name for candidate in choose("conv2d", ["nnpack", "eager"])]
    assert names == [*OUR_NAMES, "eager", "nnpack"]
    names = [candidate.name for candidate in choose("avg_pool2d", ["nnpack", "eager"])]
    assert names == ["zoo", "zoo-nhwc", "eager"]
