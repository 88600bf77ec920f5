"""``zoo race``: whole processes, a small network with weights of its own, a photograph of noise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from zoo.benchmark.stats import median_interval
from zoo.cli import main
from zoo.cli.race import _Bars

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / "tests" / "compiler" / "engines.py"

PLUGIN = """
import torch
import zoo

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")

@zoo.hookimpl
def zoo_architectures():
    weights = {"noise": zoo.Weights(source=WEIGHTS, num_classes=6, labels="racers:NAMES")}
    return [
        zoo.Architecture("net", "racers:net", input_size=(3, 16, 16), weights=weights),
        zoo.Architecture("bare", "racers:net", input_size=(3, 16, 16)),
    ]

def net(*, num_classes=6, in_chans=3):
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_chans, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, num_classes),
    )
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A plugin file, one for all tests: its folder joins sys.path. Its weights lie beside it."""
    folder = tmp_path_factory.mktemp("racers")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Identity(), nn.Identity(), nn.Identity())
    net.append(nn.Linear(8, 6))
    torch.save(net.state_dict(), folder / "net.pth")
    file = folder / "racers.py"
    file.write_text(f"WEIGHTS = {str(folder / 'net.pth')!r}\n{PLUGIN}")
    return file


@pytest.fixture
def photo(tmp_path, plugin, monkeypatch):
    """An image file; the plugins of these tests are the only ones beside the core's."""
    monkeypatch.setenv("ZOO_EXTRA_PLUGINS", os.pathsep.join([str(plugin), str(ENGINES)]))
    monkeypatch.setenv("ZOO_NO_PLUGINS", "1")
    path = [str(ROOT), os.environ.get("PYTHONPATH")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setattr("zoo.registry._registry", None)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_race(photo):
    result = photo.with_name("race.json")
    options = ["--threads", "1", "--rounds", "5", "--rivals", "eager,slow,wrong"]
    options += ["--model", "racers/net", "--output", str(result)]
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "race", str(photo), *options],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(result.read_text())
    rows = document["results"]
    assert {row["candidate"] for row in rows} == {"zoo", "zoo-exact", "eager", "slow"}
    assert rows[-1]["candidate"] == "slow"
    assert [row["median_ms"] for row in rows] == sorted(row["median_ms"] for row in rows)
    assert rows[0]["times_the_fastest"] == 1
    for row in rows:
        low, high = row["hot_interval_ms"]
        assert low <= row["median_ms"] <= high
        assert row["top5_agreement"] == 5
    best = document["predictions"]
    assert [each["label"] for each in best] == [
        ("ant", "bee", "cat", "dog", "eel", "fox")[each["class_index"]] for each in best
    ]
    assert sum(each["probability"] for each in best) < 1
    (wrong,) = document["not_timed"]
    assert (wrong["candidate"], wrong["status"]) == ("wrong", "wrong")
    assert document["header"]["cpu"]
    assert done.stdout.startswith(f"{photo}: {best[0]['label']} 0.")
    assert "\nWrong: wrong in 1 case " in done.stdout
    assert "5/5" in done.stdout
    assert "\x1b" not in done.stderr  # bars are for terminals


def test_bars_are_as_long_as_the_candidates_are_fast(capsys):
    bars = _Bars(["a", "b", "c"], 5)
    bars({"a": 0.001, "b": 0.004, "control": 0.1})
    bars({"a": 0.002, "b": 0.002, "control": 0.1})
    first, second = capsys.readouterr().err.split("\x1b[3F\x1b[J")
    assert "control" not in first + second
    assert [line.count("█") for line in first.splitlines()] == [0, 30, 8]
    assert [line.count("█") for line in second.splitlines()] == [0, 30, 15]
    assert second.splitlines()[1].split()[::2] == ["a", "1"]


def test_the_interval_of_a_median():
    low, high = median_interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert 1 <= low <= 3 <= high <= 100
    assert median_interval([2.0] * 5) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--model", "racers/bare"), 1, "racers/bare has no pretrained weights"),
        (("--model", "nett"), 2, "there is no model 'nett'"),
        (("--model", "racers/net", "--threads", "4096"), 2, "this process may use"),
        (("--model", "racers/net", "--rivals", "mkl"), 2, "unknown rival 'mkl'"),
    ],
)
def test_bad_use_is_a_line(photo, arguments, code, message):
    done = CliRunner().invoke(main, ["race", str(photo), *arguments])
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == ""


def test_a_file_that_is_no_image_is_a_line(photo):
    photo.write_text("no image")
    rest = ("--model", "racers/net", "--threads", "1", "--rivals", "none")
    done = CliRunner().invoke(main, ["race", str(photo), *rest])
    assert done.exit_code == 1
    assert "ImageError" in done.stderr
    assert "Traceback" not in done.stderr
