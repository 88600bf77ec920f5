"""``zoo train`` as its users call it."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
import yaml

SMALL = ("--dataset", "digits", "--model", "small_cnn", "-b", "256")


@pytest.fixture
def train(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.environ["ZOO_PLUGINS"] = "zoo,cifar"
    return lambda *arguments: zoo("train", *arguments)


def test_train_then_resume_then_predict(train, zoo, tmp_path):
    result = train(*SMALL, "--epochs", "2", "--output", "runs/a")
    assert result.exit_code == 0, result.stderr
    heading, _, row = result.stdout.splitlines()
    assert heading.split()[:3] == ["run", "epochs", "top-1"]
    assert row.split()[:2] == ["runs/a", "2"]
    assert result.stderr.count("epoch 2/2") == 1

    again = train("--resume", "runs/a", "--format", "json")
    assert again.exit_code == 0
    assert again.stderr == "runs/a is finished: all 2 epochs are done\n"
    (row,) = json.loads(again.stdout)
    assert row["best_top1"] >= row["eval_top1"] > 10

    from PIL import Image

    Image.new("L", (8, 8)).save("black.png")
    seen = zoo(
        "predict", "black.png", "--checkpoint", "runs/a/best.safetensors", "--format", "json"
    )
    assert seen.exit_code == 0, seen.stderr
    (item,) = json.loads(seen.stdout)
    assert {each["label"] for each in item["predictions"]} <= set("0123456789")


def test_flags_reach_the_settings(train):
    result = train(
        *SMALL, "--epochs", "1", "--output", "a", "--opt", "sgd", "--lr", "0.1", "--sched", "step",
        "--warmup-epochs", "1", "--weight-decay", "1e-4", "--mixup", "0.1", "--cutmix", "0.1",
        "--smoothing", "0.1", "--reprob", "0.1", "--model-ema", "--channels-last", "--seed", "4",
        "--grad-accum-steps", "2", "--clip-grad", "1", "--layer-decay", "0.9", "-j", "0", "--amp",
        "--opt-kwargs", "{nesterov: true}", "--loss", "cross_entropy: {label_smoothing: 0.05}",
        "--augment", "zoo/random_crop: {padding: 1, size: 8}", "--augment", "horizontal_flip",
        "--input-size", "1", "8", "8", "--scale", "0.5", "1", "--decay-milestones", "3", "--aug",
        "--format", "csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    settings = yaml.safe_load(Path("a/args.yaml").read_text())
    assert settings["recipe"] == "digits"
    assert settings["weight_decay"] == 1e-4
    assert settings["loss"] == {"cross_entropy": {"label_smoothing": 0.05}}
    assert settings["augment"] == [
        {"zoo/random_crop": {"padding": 1, "size": 8}}, "horizontal_flip",
    ]  # fmt: skip
    assert settings["input_size"] == [1, 8, 8]
    assert settings["decay_milestones"] == [3]
    assert (settings["no_aug"], settings["amp"], settings["model_ema"]) == (False, True, True)
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert row["run"] == "a"


def test_configuration_file_and_default_folder(train):
    Path("my.yaml").write_text("dataset: digits\nmodel: small_cnn\nepochs: 1\nbatch_size: 256\n")
    assert train("-c", "my.yaml").exit_code == 0
    assert train("-c", "runs/digits-small_cnn/args.yaml", "--seed", "3").exit_code == 0
    assert yaml.safe_load(Path("runs/digits-small_cnn-2/args.yaml").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to train on: --dataset NAME"),
        (("--dataset", "digits"), "say what to train: --model NAME"),
        ((*SMALL, "--epochs", "0"), "epochs must be at least 1"),
        ((*SMALL, "--lr", "fast"), "'fast' is not a valid float"),
        ((*SMALL, "--loss", "{"), "--loss { is not plain YAML"),
        ((*SMALL, "--loss", "[1]"), "loss must be a name"),
        (("--resume", "nowhere"), "there is no run in nowhere"),
        (("--resume", "a", "--output", "b"), "leave out --output and --force"),
        ((*SMALL, "--recipe", "digit"), "did you mean digits"),
        ((*SMALL, "--output", "full"), "full holds something else than a run"),
        (("--dataset", "digits", "--model", "none"), "there is no model 'none'"),
        (("--dataset", "./none", "--model", "small_cnn"), "no such file or folder"),
    ],
)
def test_refusals(train, arguments, message):
    Path("full").mkdir()
    Path("full", "file").write_text("")
    result = train(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("runs").exists()


def test_an_output_that_holds_a_run(train):
    assert train(*SMALL, "--epochs", "1", "--output", "a").exit_code == 0
    refused = train(*SMALL, "--epochs", "1", "--output", "a")
    assert refused.exit_code == 2
    assert "a holds a run: go on with it by --resume a" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert train(*SMALL, "--epochs", "1", "--output", "a", "--force").exit_code == 0
    changed = train("--resume", "a", "--lr", "0.5")
    assert changed.exit_code == 2
    assert "lr was 0.01, not 0.5" in changed.stderr


def test_list_recipes(zoo):
    result = zoo("list-recipes", "--format", "json")
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["digits"]["model"] == "cifar/small_cnn"
    assert rows["digits"]["settings"]["epochs"] == 30
    assert "cifar/resnet20" in zoo("list-recipes").stdout


def test_names_are_checked_without_torch(zoo_process):
    result = zoo_process(
        "train", "--dataset", "digits", "--model", "nothing", PYTHONPROFILEIMPORTTIME="1",
        ZOO_PLUGINS="zoo,cifar",
    )  # fmt: skip
    assert result.returncode == 2
    assert "no model 'nothing'" in result.stderr
    assert "| torch\n" not in result.stderr
