"""Engines in processes of their own: tiny ones that the tests bring, then the real ones."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from zoo.benchmark import engines
from zoo.benchmark.candidates import ENGINES, RIVALS, choose, engine
from zoo.benchmark.engines import remote
from zoo.benchmark.engines.remote import EngineRun, _wait_for_own_threads
from zoo.benchmark.machine import others_run
from zoo.benchmark.names import ACTIVATIONS
from zoo.benchmark.names import ENGINES as ENGINE_NAMES
from zoo.benchmark.problem import LeftOut, Problem
from zoo.benchmark.shapes import parse_case
from zoo.benchmark.timing import Plan, measure_case

HERE = Path(__file__).parent
QUICK = Plan(rounds=5, block_s=0.0005, patience=1)
EAGER = RIVALS[0]


@pytest.fixture(autouse=True)
def _tiny_engines(monkeypatch):
    """One thread, and a path on which engine processes find the loaders of these tests."""
    path = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def copying():
    return Problem.make(parse_case("max_pool2d", "1,2,3,3,1,1,0"), torch.float32, "none")


@pytest.fixture
def start():
    runs = []

    def start(name, copies=1):
        run = EngineRun(f"tiny_engines:{name}", copying(), copies)
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.close()


def state_of(pid):
    """Letter of a process's state; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def wait_for(state, pid):
    deadline = time.monotonic() + 10
    while state_of(pid) != state and time.monotonic() < deadline:
        time.sleep(0.01)
    return state_of(pid) == state


def measure(*names, plan=QUICK):
    contestants = [engine(name, f"tiny_engines:{name}") for name in names]
    with torch.inference_mode():
        return measure_case(copying(), [EAGER, *contestants], plan)


def test_the_tables_of_names_packages_and_candidates_agree():
    assert [candidate.name for candidate in ENGINES] == list(ENGINE_NAMES)
    assert list(engines.PACKAGES) == list(ENGINE_NAMES)
    assert not any(candidate.builtin for candidate in ENGINES)
    names = [candidate.name for candidate in choose("avg_pool2d", ["ncnn", "eager"])]
    assert names == ["zoo", "zoo-nhwc", "eager", "ncnn"]
    assert not any(c.engine for c in choose("adaptive_avg_pool2d", list(ENGINE_NAMES)))


def test_an_engine_times_its_own_blocks_and_hands_over_its_output(start):
    run = start("sleeps")
    assert 0.002 <= run.block(50) < 0.05  # a call, not the block
    assert torch.equal(run(), copying().input)
    assert run.block(1) >= 0.002


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_of_this_process_that_still_work_are_waited_for():
    ends = []

    def work():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 30_000)  # some milliseconds without the GIL
        ends.append(time.perf_counter())

    thread = threading.Thread(target=work)
    thread.start()
    while not (others_run() or ends):
        pass
    _wait_for_own_threads(patience_s=10)
    over = time.perf_counter()
    thread.join()
    assert ends[0] < over + 0.001
    assert not others_run()


def test_an_engine_knows_no_torch_and_may_print(start):
    assert torch.equal(start("without_torch")(), copying().input)
    assert torch.equal(start("talks")(), copying().input)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_engine_is_stopped_between_blocks_and_ended_at_the_end(start):
    run = start("spins")
    pid = run._process.pid
    for _ in range(3):
        run.block(2)
        assert wait_for("T", pid)
    run.close()
    assert state_of(pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_engine_does_not_outlive_whoever_started_it():
    script = (
        "import os, sys, test_engines\n"
        "run = test_engines.EngineRun('tiny_engines:spins', test_engines.copying())\n"
        "print(run._process.pid, flush=True)\n"
        "os.abort()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert wait_for(None, int(done.stdout))


def test_calls_go_through_the_copies_in_turn(start):
    run = start("numbered", copies=2)
    once, twice = run(), run()
    assert torch.equal(twice, 2 * once)
    assert torch.equal(run(), once)


def test_what_goes_wrong_is_told_and_ends_the_process(start, monkeypatch):
    with pytest.raises(LeftOut, match=r"RuntimeError: out of paper$") as failed:
        start("raises")
    assert failed.value.status == "failed"
    with pytest.raises(LeftOut, match="SIGABRT, after 'this machine lacks a coin slot'") as crash:
        start("dies")
    assert crash.value.status == "crashed"
    run = start("hangs")
    monkeypatch.setattr(remote.Remote, "patience_s", 0.2)
    with pytest.raises(LeftOut, match="no answer within"):
        run.block(1)
    assert run._process.returncode == -signal.SIGKILL


def test_the_gate_holds_for_engines_too():
    outcome = measure("sleeps", "off", "drifts")
    assert [row["candidate"] for row in outcome.results] == ["eager", "sleeps"]
    wrong, later = outcome.not_timed
    assert (wrong["candidate"], wrong["status"]) == ("off", "wrong")
    assert wrong["error"] == pytest.approx(1e-3, rel=0.1)
    assert later["candidate"] == "drifts"
    assert later["reason"].endswith("after many calls")


def test_a_crash_is_the_engines_and_the_others_race_on():
    plan = Plan(rounds=400, block_s=0.0005, patience=1)
    outcome = measure("dies", "dies_in_the_race", "without_torch", plan=plan)
    assert [row["candidate"] for row in outcome.results] == ["eager", "without_torch"]
    assert all(len(row["samples_ms"]) == plan.rounds for row in outcome.results)
    found = {row["candidate"]: row["status"] for row in outcome.not_timed}
    assert found == {"dies": "crashed", "dies_in_the_race": "crashed"}
    assert outcome.control["candidate"] == "eager"


def test_rows_are_held_against_the_quickest_engine():
    outcome = measure("sleeps", "without_torch")
    median = {row["candidate"]: row["median_ms"] for row in outcome.results}
    for row in outcome.results:
        assert row["best_rival"] == "without_torch"
        ratio = median["without_torch"] / median[row["candidate"]]
        assert row["ratio_to_best_rival"] == pytest.approx(ratio)
    (alone,) = measure().results
    assert alone["best_rival"] is None
    assert alone["ratio_to_best_rival"] is None


def test_engines_decline_float64():
    task = Problem.make(parse_case("max_pool2d", "1,2,3,3,1,1,0"), torch.float64, "none")
    assert all("float32" in candidate.declines(task) for candidate in ENGINES)


CASES = [
    ("conv2d", "2,16,9,11,32,3,1,1"),
    ("conv2d", "1,8,9,9,8,5,2,2,8"),
    ("conv2d", "1,16,9,9,8,3,2,1,2"),
    ("conv2d_pool", "1,16,14,14,16,3,1,1+max3s2"),
    ("conv2d_pool", "1,3,14,14,12,7,2,3+avg2"),
    ("max_pool2d", "2,16,9,11,3,2,1"),
    ("avg_pool2d", "2,3,9,11,3,2,1"),
]


@pytest.fixture(params=ENGINE_NAMES)
def real(request):
    # Not importorskip: torch is here, and engines are kept apart from it.
    if missing := engines.missing_packages(request.param):
        pytest.skip(f"{', '.join(missing)} not installed")
    (candidate,) = [candidate for candidate in ENGINES if candidate.name == request.param]
    return candidate


def error_of(candidate, op, shape, activation, copies=1):
    task = Problem.make(parse_case(op, shape), torch.float32, activation)
    run = candidate.rotate(task, copies)
    try:
        first = task.error_of(run())
        assert run.block(3) > 0
        assert task.error_of(run()) == first
    finally:
        run.close()
    return task, first


@pytest.mark.parametrize(("op", "shape"), CASES)
def test_a_real_engine_does_the_same_work(real, op, shape):
    task, error = error_of(real, op, shape, "relu" if "conv" in op else "none", copies=2)
    # MNN's large Winograd tiles do not pass: that is what mnn-exact is for.
    assert task.passes(error) or (real.name == "mnn" and error < 2e-3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_real_engine_has_every_activation(real, activation):
    task, error = error_of(real, "conv2d", "1,8,6,5,12,1,1,0", activation)
    assert task.passes(error)
