"""``zoo optimize``: summary, explanation and the file it saves."""

from __future__ import annotations

import csv
import io
import json
import os

import pytest
import torch

import zoo as library

SMALL = ("small_cnn", "--no-pretrained", "--image-size", "32")


@pytest.fixture
def optimize(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.environ["ZOO_PLUGINS"] = "zoo,cifar"
    return lambda *arguments: zoo("optimize", *arguments)


def test_summary_and_file(optimize, tmp_path):
    threads = torch.get_num_threads()
    result = optimize(
        *SMALL, "--batch", "2", "--threads", "1", "-o", "out.zoo", "--format", "json"
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert row["model"] == "cifar/small_cnn"
    assert row["input_size"] == [2, 3, 32, 32]
    assert row["threads"] == 1
    assert row["milliseconds"] > 0
    assert result.stderr == "saved to out.zoo: zoo.load_optimized('out.zoo') runs it\n"
    loaded = library.load_optimized(tmp_path / "out.zoo")
    assert loaded(torch.randn(3, 3, 32, 32)).shape == (3, 10)
    assert loaded.pretrained_cfg["architecture"] == "small_cnn"
    assert torch.get_num_threads() == threads
    again = optimize(*SMALL, "-o", "out.zoo")
    assert again.exit_code == 2
    assert "out.zoo exists: choose another name or add --force" in again.stderr
    assert optimize(*SMALL, "-o", "out.zoo", "--force").exit_code == 0


def test_explanation(optimize):
    result = optimize(*SMALL, "--explain", "--format", "csv", "--precision", "exact")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    convolutions = [row for row in rows if row["op"] == "conv2d"]
    assert convolutions
    assert all("winograd" not in row["kernel"] for row in convolutions)
    for row in convolutions:
        assert 0 < float(row["percent_of_peak"]) < 120
        assert float(row["percent_of_roofline"]) > 0.99 * float(row["percent_of_peak"])
        assert not row["why"]
    assert sum(float(row["percent"]) for row in rows) == pytest.approx(100)
    for row in rows:
        assert bool(row["why"]) == row["kernel"].startswith("aten::")
    assert "in PyTorch's kernels; memory:" in result.stderr
    assert "GFLOP/s" in optimize(*SMALL, "--explain").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["small_cnn"], 1, "has no pretrained weights: give some with --checkpoint FILE, or add"),
        (["nothing", "-o", "a"], 2, "there is no model 'nothing'"),
        ([*SMALL[:3], "7"], 2, "does not take images of 1x3x7x7"),
        ([*SMALL, "-o", "no/file"], 2, "the folder no does not exist"),
        ([*SMALL, "--checkpoint", __file__], 2, "either --checkpoint or --no-pretrained"),
    ],
)
def test_refusals(optimize, arguments, code, message):
    result = optimize(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_names_are_checked_without_torch(zoo_process):
    result = zoo_process("optimize", "nothing", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 2
    assert "no model 'nothing'" in result.stderr
    assert "| torch\n" not in result.stderr
