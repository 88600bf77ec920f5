"""CIFAR-10 and ImageNet in their own file formats go through train, evaluate and predict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from zoo.cli import main

pytest.importorskip("torchmetrics")
BUILTIN = Path(__file__).parents[1] / "builtin"  # whose tests know how to write the data sets


def zoo(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, prog_name="zoo")
    assert result.exit_code == 0, result.output
    return result


def through(dataset: str, root: Path, picture: Path, name: str, split: str) -> None:
    place = ("--dataset", dataset, "--data-dir", str(root))
    zoo("train", *place, "--model", "small_cnn", "--input-size", "3", "32", "32", "-b", "4",
        "--recipe", "none", "--epochs", "2", "--output", "a")  # fmt: skip
    about = json.loads(Path("a/run.json").read_text())
    assert about["data"]["evaluated_on"] == split
    classes = set(about["data"]["classes"])
    assert name in classes
    figures = json.loads(
        zoo("evaluate", *place, "--checkpoint", "a/last.safetensors", "--format", "json").stdout
    )
    trained = json.loads(zoo("train", "--resume", "a", "--format", "json").stdout)[0]
    assert figures["figures"]["top1"]["value"] == pytest.approx(trained["eval_top1"], abs=1e-3)
    (seen,) = json.loads(
        zoo(
            "predict", str(picture), "--checkpoint", "a/best.safetensors", "--format", "json"
        ).stdout
    )
    assert {each["label"] for each in seen["predictions"]} <= classes


def test_cifar10(tmp_path, load_script):
    cifar = load_script(BUILTIN / "test_cifar_data.py")
    root = cifar.write(tmp_path / "data")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("black.png")
    through("cifar10", root, Path("black.png"), "plane", "test")


def test_imagenet(tmp_path, load_script):
    imagenet = load_script(BUILTIN / "test_imagenet.py")
    root = imagenet.write(tmp_path / "data")
    picture = root / "val" / "ILSVRC2012_val_00000001.JPEG"
    through("imagenet", root, picture, "English setter", "val")
