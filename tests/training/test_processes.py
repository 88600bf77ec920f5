"""Two processes train and evaluate as one does at the same global batch."""

from __future__ import annotations

import csv
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import weights
from safetensors.torch import load_file

from zoo.training.session import train

ARGUMENTS = ("--dataset", "digits", "--device", "cpu", "--hflip", "0", "--recipe", "none")


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", str(_free_port()), "-m", "zoo", *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "summary.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("ops", ["torch", "fused"])
def test_two_processes_are_as_one(config, tmp_path, ops):
    # 360 images for evaluation in shares of 50: the last batch is shared unevenly.
    done = torchrun(
        *("train", "--model", "cifar/small_cnn", "--epochs", "2", "-b", "50", "--lr", "0.01"),
        *("--grad-accum-steps", "2", "--clip-grad", "1", "--output", str(tmp_path / "two")),
        *("--ops", ops),
        *ARGUMENTS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1/2") == 1  # one process speaks
    train(
        config(batch_size=100, grad_accum_steps=2, clip_grad=1.0, device="cpu", recipe="none"),
        tmp_path / "one",
    )
    for mine, other in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        assert mine == pytest.approx(other, rel=1e-4)
        # A whole number of 360 images, each counted once.
        assert mine["eval_top1"] * 3.6 == pytest.approx(round(mine["eval_top1"] * 3.6), abs=1e-4)
    two, one = (load_file(tmp_path / name / "last.safetensors") for name in ("two", "one"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)


def test_two_processes_stop_together_and_go_on_bit_for_bit(launcher, tmp_path):
    common = (
        "--model",
        "oddity/restless",
        "--epochs",
        "2",
        "-b",
        "128",
        "--model-ema",
        *ARGUMENTS,
    )

    def run(*arguments: str) -> list[int]:
        port = str(_free_port())
        launcher.start(
            *(
                (["train", *arguments], {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                    "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                    "OMP_NUM_THREADS": "1",
                })
                for rank in (0, 1)
            )
        )  # fmt: skip
        return launcher.statuses()

    loss = "oddity/interrupting: {after: %d}"
    whole = run(*common, "--loss", loss % 1000, "--output", str(tmp_path / "whole"))
    assert whole == [0, 0], launcher.log.read_text()
    # Five steps an epoch. The first call of the loss is a trial; the fourth is in the third step.
    stopped = run(*common, "--loss", loss % 4, "--output", str(tmp_path / "stopped"))
    assert stopped[0] == 128 + signal.SIGINT, launcher.log.read_text()
    assert f"zoo train --resume {tmp_path / 'stopped'}" in launcher.log.read_text()
    args = tmp_path / "stopped" / "args.yaml"
    args.write_text(args.read_text().replace("after: 4", "after: 1000"))
    resumed = run("--resume", str(tmp_path / "stopped"))
    assert resumed == [0, 0], launcher.log.read_text()
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
