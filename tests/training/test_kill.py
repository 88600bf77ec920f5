"""Signals: Ctrl-C ends the step and saves; runs that are killed end as one that was left alone."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
from pathlib import Path

import yaml
from PIL import Image
from runs import Launcher, weights
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from zoo.checkpoints import load_model
from zoo.training.config import TrainConfig
from zoo.training.state import read_state

KILLS = 20


def test_ctrl_c_ends_the_step_saves_and_says_how_to_go_on(
    launcher: Launcher, tmp_path: Path
) -> None:
    """Sent to the whole process group, workers too, as a terminal does."""
    folder = tmp_path / "a"
    arguments = ["train", "--dataset", "digits", "--model", "cifar/small_cnn", "--epochs", "5000"]
    (pid,) = launcher.start(([*arguments, "-j", "2", "--output", str(folder)], {}))
    while not (folder / "last.safetensors").exists():
        assert _alive(pid), launcher.log.read_text()
        time.sleep(0.02)
    os.killpg(pid, signal.SIGINT)
    assert launcher.statuses() == [128 + signal.SIGINT]
    said = launcher.log.read_text()
    assert f"go on with: zoo train --resume {folder}\n" in said
    assert "Traceback" not in said
    _, place = read_state(folder / "state.safetensors")
    assert place.updates > 0


def test_killed_at_random_moments(launcher: Launcher, tmp_path: Path) -> None:
    def begin(name: str) -> list[str]:
        return [
            *("train", "--dataset", "digits", "--model", "oddity/restless", "--epochs", "30"),
            *("-b", "256", "--checkpoint-every", "2", "--model-ema", "--mixup", "0.2"),
            *("--ops", "fused"),
            *("--output", str(tmp_path / name)),
        ]

    start = time.monotonic()
    launcher.start((begin("whole"), {}))
    assert launcher.statuses() == [0], launcher.log.read_text()
    length = time.monotonic() - start

    seed = random.randrange(2**32)
    moments = random.Random(seed)
    folder = tmp_path / "killed"
    kills, within = 0, 0
    while kills < KILLS:
        again = folder.exists()
        before = _begun(folder)
        arguments = ["train", "--resume", str(folder)] if again else begin("killed")
        (pid,) = launcher.start((arguments, {}))
        # The later ones wait until training goes on, as most of a long run is training.
        if kills >= KILLS // 4:
            while _begun(folder) == before and _alive(pid):
                time.sleep(0.005)
        time.sleep(moments.uniform(0, length / KILLS / 2))
        os.kill(pid, signal.SIGKILL)
        assert launcher.statuses() == [-signal.SIGKILL], (seed, kills, launcher.log.read_text())
        kills += 1
        within += _begun(folder) > before
        _check_files(folder)
    assert within > KILLS / 2, seed

    launcher.start((["train", "--resume", str(folder)], {}))
    assert launcher.statuses() == [0], (seed, launcher.log.read_text())
    assert weights(folder) == weights(tmp_path / "whole"), seed
    assert weights(folder, "best") == weights(tmp_path / "whole", "best"), seed
    assert (folder / "summary.csv").read_text() == (tmp_path / "whole" / "summary.csv").read_text()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    print(f"{kills} kills, {within} of them while it trained; seed {seed}")


def _begun(folder: Path) -> int:
    """Sessions that came as far as the loop."""
    return len(list(folder.glob("events.*")))


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended waits for its parent to ask."""
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _check_files(folder: Path) -> None:
    """Read every file that has its name."""
    if not folder.exists():
        return
    TrainConfig(**yaml.safe_load((folder / "args.yaml").read_text()))
    assert json.loads((folder / "run.json").read_text())["seed"] == 0
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue  # what was being written: it has no name yet
        if path.name == "state.safetensors":
            read_state(path)
        elif path.suffix == ".safetensors":
            load_model(path)
        elif path.name == "summary.csv":
            with path.open() as file:
                assert all(len(row) == 6 for row in csv.DictReader(file))
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.name.startswith("events."):
            list(LegacyEventFileLoader(str(path)).Load())
        else:
            assert path.name in ("args.yaml", "run.json")
