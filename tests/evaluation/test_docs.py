"""docs/evaluation.md: its commands are understood, and those that need no downloads run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo.checkpoints import Checkpoint, save_checkpoint
from zoo.cli import main
from zoo.evaluation.results import RESULT_COLUMNS

datasets = pytest.importorskip("sklearn.datasets")
pytest.importorskip("torchmetrics")
pytest.importorskip("jinja2")

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page has at hand: two runs, and photographs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path / "data"))
    size = {"num_classes": 10, "in_chans": 1, "img_size": 8}
    for name in "ab":
        Path("runs", name).mkdir(parents=True)
        save_checkpoint(
            Path("runs", name, "best.safetensors"),
            zoo.create_model("cifar/small_cnn", **size).state_dict(),  # type: ignore[arg-type]
            Checkpoint(
                architecture="cifar/small_cnn",
                model_kwargs=size,
                classes=list("0123456789"),
                pretrained_cfg={"input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,)},
            ),
        )
    Path("photos").mkdir()
    shutil.copy(Path(datasets.__file__).with_name("images") / "flower.jpg", "photos")
    return tmp_path


def test_the_commands_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^\$ zoo (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for line in commands:
        result = CliRunner().invoke(main, shlex.split(line), prog_name="zoo")
        if "imagenet" in line:
            assert result.exit_code == 1
            assert "imagenet has no folder" in result.stderr
        else:
            assert result.exit_code == 0, result.stderr
    assert sorted(os.listdir("report")) == ["index.html", "report.json", "results.csv"]


def test_the_snippet_runs(runs: Path) -> None:
    scope: dict[str, object] = {}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(block, scope)
    assert torch.equal(
        zoo.create_model(
            "cifar/small_cnn", num_classes=10, in_chans=1, img_size=8,
            checkpoint_path="copy.safetensors",
        ).fc.bias,
        scope["model"].fc.bias,  # type: ignore[attr-defined]
    )  # fmt: skip


def test_flags_and_columns_are_named_as_they_are() -> None:
    from zoo.cli.evaluate import command

    flags = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= flags
    assert all(f"`{name}`" in PAGE for name in RESULT_COLUMNS)
