"""``zoo bench --model``: whole processes, a small network, and rivals that a plugin file brings."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from zoo.benchmark.networks import measure as driver
from zoo.benchmark.networks.candidates import Candidate, choose, side_by_side
from zoo.benchmark.networks.measure import Job, NetworkRun, measure
from zoo.benchmark.networks.model import Network
from zoo.benchmark.timing import Plan
from zoo.cli import main

HERE = Path(__file__).parent
ENGINES = HERE.parent / "compiler" / "engines.py"
SMALL = Job("cifar/small_cnn", 2, None, 1)
QUICK = Plan(rounds=5, block_s=0.001, patience=1)


@pytest.fixture(autouse=True)
def _engines(monkeypatch):
    """The backends of the compiler's tests, here and in the processes of candidates."""
    monkeypatch.setenv("ZOO_EXTRA_PLUGINS", str(ENGINES))
    monkeypatch.setenv("ZOO_NO_PLUGINS", "1")
    path = [str(HERE.parents[1]), os.environ.get("PYTHONPATH")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setattr("zoo.registry._registry", None)


def test_the_command_with_rivals_of_all_kinds(tmp_path):
    options = ("--threads", "1", "--rounds", "5", "--min-time", "1", "--batch", "2")
    rivals = ("--rivals", "eager,slow,wrong,unwilling")
    files = ("--output", str(tmp_path / "out.json"), "--plot", str(tmp_path / "chart.svg"))
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "bench", "--model", "small_cnn", *options, *rivals, *files],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "chart.svg").read_bytes().startswith(b"<?xml")
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["header"]["op"] == "networks"
    (process,) = document["header"]["processes"]
    assert (process["threads"], len(process["affinity"])) == (1, 1)

    results = document["results"]
    case = "small_cnn 2x3x32x32"
    names = ["zoo", "zoo-exact", "eager", "slow"]
    assert [(row["case"], row["candidate"]) for row in results] == [(case, name) for name in names]
    for row in results:
        assert row["error"] <= 1e-4
        assert row["min_ms"] <= row["median_ms"] <= row["p99_ms"] * 1.0001
        assert len(row["samples_ms"]) == len(row["cold_samples_ms"]) == 5
        assert row["images_per_s"] == pytest.approx(row["batch"] / row["median_ms"] * 1e3)
        assert 0 < row["network_mb"] < row["resident_mb"]
        assert row["best_builtin"] == "eager"
        assert row["best_rival"] == "slow"
        assert row["prepare_ms"] >= 0
    slow = results[3]
    assert slow["median_ms"] > 10
    assert slow["ratio_to_best_builtin"] < 1

    left = {(row["case"], row["candidate"]): row for row in document["not_timed"]}
    assert set(left) == {(case, name) for name in ("wrong", "unwilling")}
    wrong, unwilling = left[case, "wrong"], left[case, "unwilling"]
    assert (wrong["status"], wrong["error"]) == ("wrong", pytest.approx(1e-3, rel=0.01))
    assert unwilling["reason"] == "ZooError: it does not want to"
    assert [control["candidate"] for control in document["controls"]] == ["eager"]
    assert re.search(r"^slow: 0\.\d+ times the best builtin's speed", done.stdout, re.MULTILINE)
    assert "\nWrong: wrong in 1 case " in done.stdout
    assert "[1/1] small_cnn, batch 2, 1 thread: quickest is" in done.stderr


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_processes_side_by_side():
    sleeper = Candidate("slow", "engines:slow", builtin=True)
    both = [sleeper, *side_by_side([sleeper], 2)]
    _, outcome = measure(Job("cifar/small_cnn", 1, None, 2), both, QUICK)
    one, two = outcome.results
    assert [(row["candidate"], row["processes"]) for row in (one, two)] == [
        ("slow", 1),
        ("slow x2", 2),
    ]
    # Each call sleeps 10 ms, two at a time.
    assert two["median_ms"] < 0.8 * one["median_ms"]
    assert two["images_per_s"] == pytest.approx(1e3 / two["median_ms"])
    assert two["p99_ms"] > 10
    assert two["cold_ms"] is None
    assert two["resident_mb"] > 1.5 * one["resident_mb"]


def test_inductor_and_the_core_are_the_builtins():
    chosen = choose(["aotinductor", "inductor", "eager"])
    names = ["zoo", "zoo-exact", "eager", "inductor", "aotinductor"]
    assert [c.name for c in chosen] == names
    assert [c.name for c in chosen if c.builtin] == names[2:]
    assert [c.name for c in choose([]) if c.builtin or c.engine] == []
    (slow,) = [c for c in choose(["slow"]) if c.engine]
    assert slow.target == "engines:slow"


def test_random_networks_behave_like_trained_ones():
    network = Network.make("cifar/resnet20", 2, None)
    with torch.no_grad():
        output = network.module(network.input)
        # Each residual branch shows in the output, although its last gain starts at zero or one.
        assert torch.isfinite(output).all()
        assert 1e-3 < output.std() < 1e3
        assert (output - network.expected).abs().max() <= 1e-4 * network.expected.abs().max()
    gains = [p for n, p in network.module.named_parameters() if p.dim() == 1 and "weight" in n]
    assert gains
    assert all(gain.std() > 0 for gain in gains)
    assert network.flops == pytest.approx(2 * 2 * 41e6, rel=0.05)


def test_what_cannot_be_measured_is_a_line_and_the_others_go_on():
    done = CliRunner().invoke(
        main,
        [
            "bench",
            "--model",
            "small_cnn",
            "--image-size",
            "1",
            "--threads",
            "1",
            "--rivals",
            "none",
        ],
    )
    assert done.exit_code == 1
    assert "does not run on images of 3x1x1" in done.stderr


def test_a_candidate_that_is_gone_is_left_out(monkeypatch):
    """Its process ends between two blocks; the others are timed to the end."""
    started = []

    class Watched(NetworkRun):
        def block(self, calls):
            if self.candidate == "zoo" and len(self.blocks) == 3:
                self._process.kill()
            return super().block(calls)

        def __init__(self, candidate, job, file):
            self.candidate = candidate.name
            started.append(candidate.name)
            super().__init__(candidate, job, file)

    monkeypatch.setattr(driver, "NetworkRun", Watched)
    eager = Candidate("eager", "zoo.backends.pytorch:plain", builtin=True)
    zoo = Candidate("zoo", "zoo.backends.pytorch:plain")
    _, outcome = measure(SMALL, [zoo, eager], QUICK)
    assert started == ["zoo", "eager", "eager"]
    (left,) = outcome.not_timed
    assert (left["candidate"], left["status"]) == ("zoo", "crashed")
    assert [row["candidate"] for row in outcome.results] == ["eager"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "smal_cnn"), "did you mean cifar/small_cnn"),
        (("--model", "small_cnn", "--op", "conv2d"), "leave out --op"),
        (("--model", "small_cnn", "--weights", "cold"), "leave out --op"),
        (("--model", "small_cnn", "--rivals", "mkl"), "unknown rival 'mkl'"),
        (("--model", "small_cnn", "--rivals", "absent"), "unknown rival 'absent'"),
        (("--op", "conv2d", "--image-size", "8"), "belong to --model"),
    ],
)
def test_bad_use_is_a_line_and_exit_code_2(arguments, message):
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""
