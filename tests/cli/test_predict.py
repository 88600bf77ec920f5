"""``zoo predict`` as its users call it, with real weights."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("zoo_efficientnet_lite")
datasets = pytest.importorskip("sklearn.datasets")

PHOTOS = Path(datasets.__file__).with_name("images")
MODEL = ("--model", "efficientnet_lite0")


@pytest.fixture
def predict(zoo, tmp_path, monkeypatch):
    """Run ``zoo predict`` in a folder that holds the two photographs."""
    for name in ("flower.jpg", "china.jpg"):
        shutil.copy(PHOTOS / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    os.environ["ZOO_PLUGINS"] = "efficientnet-lite"
    return lambda *arguments: zoo("predict", *arguments)


def test_main_job(environment, zoo_process):
    result = zoo_process(
        "predict", str(PHOTOS / "flower.jpg"), str(PHOTOS / "china.jpg"), *MODEL,
        ZOO_PLUGINS="efficientnet-lite",
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["image", "label", "probability", "class"]
    assert rows[2][1] == "daisy"
    assert float(rows[2][2]) == pytest.approx(0.32, abs=0.03)
    assert rows[7][1] == "palace"
    assert float(rows[7][2]) == pytest.approx(0.30, abs=0.03)
    assert len(rows) == 12


def test_optimized(predict):
    plain = predict("flower.jpg", "china.jpg", *MODEL, "--format", "json")
    fast = predict("flower.jpg", "china.jpg", *MODEL, "--format", "json", "--optimize")
    assert fast.exit_code == 0, fast.stderr
    for one, other in zip(json.loads(fast.stdout), json.loads(plain.stdout), strict=True):
        for mine, eager in zip(one["predictions"], other["predictions"], strict=True):
            assert mine["label"] == eager["label"]
            assert mine["probability"] == pytest.approx(eager["probability"], rel=1e-3)


def test_optimized_is_for_the_cpu(predict):
    result = predict("flower.jpg", *MODEL, "--optimize", "--device", "meta")
    assert result.exit_code == 2
    assert "leave out --device meta" in result.stderr


def test_json(predict):
    Path("bad.jpg").write_bytes(b"no image")
    result = predict("flower.jpg", "bad.jpg", "lost.jpg", "china.jpg", *MODEL, "--format", "json")
    assert result.exit_code == 1
    flower, bad, lost, china = json.loads(result.stdout)
    assert flower["image"] == "flower.jpg"
    assert len(flower["predictions"]) == 5
    assert set(flower) == {"image", "predictions"}
    first = flower["predictions"][0]
    assert (list(first), first["label"]) == (["label", "class_index", "probability"], "daisy")
    assert bad == {"image": "bad.jpg", "error": "not an image, or damaged"}
    assert lost == {"image": "lost.jpg", "error": "no such file or folder"}
    assert china["predictions"][0]["label"] == "palace"
    assert result.stderr == (
        "Error: bad.jpg: not an image, or damaged\nError: lost.jpg: no such file or folder\n"
    )


def test_folder_and_quoted_pattern(predict):
    Path("sub").mkdir()
    shutil.copy("flower.jpg", "sub/rose.jpg")
    for arguments in (["."], ["*.jpg", "sub"], ["**/*.jpg"]):
        result = predict(*arguments, *MODEL, "--format", "json", "--batch-size", "2")
        assert result.exit_code == 0
        images = [os.path.normpath(item["image"]) for item in json.loads(result.stdout)]
        assert images == ["china.jpg", "flower.jpg", "sub/rose.jpg"]


def test_csv_has_the_failures_too(predict):
    result = predict("flower.jpg", "lost.jpg", *MODEL, "--format", "csv", "--topk", "2")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["image"] for row in rows] == ["flower.jpg", "flower.jpg", "lost.jpg"]
    assert rows[0]["label"] == "daisy"
    assert rows[2]["error"] == "no such file or folder"
    assert result.exit_code == 1


def test_output_file(predict):
    arguments = ("flower.jpg", *MODEL, "--format", "json", "--output", "result.json")
    result = predict(*arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads(Path("result.json").read_text())[0]["predictions"][0]["label"] == "daisy"
    again = predict(*arguments)
    assert again.exit_code == 2
    assert again.stderr == "Error: result.json exists: choose another name or add --force\n"
    assert predict(*arguments, "--force", "--topk", "1").exit_code == 0
    assert len(json.loads(Path("result.json").read_text())[0]["predictions"]) == 1


def test_only_failures_are_told_without_loading_a_model(predict):
    result = predict("lost.jpg", "*.bmp", "--model", "efficientnet_lite0", "--format", "json")
    assert result.exit_code == 1
    assert [item["image"] for item in json.loads(result.stdout)] == ["lost.jpg", "*.bmp"]


def test_own_checkpoint(predict):
    import torch

    import zoo

    torch.manual_seed(0)
    model = zoo.create_model("shelf/odd", num_classes=4)
    torch.save(model.state_dict(), "own.pth")
    result = predict(
        "flower.jpg", "--model", "shelf/odd", "--checkpoint", "own.pth", "--num-classes", "4",
        "--format", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (item,) = json.loads(result.stdout)
    assert sorted(entry["label"] for entry in item["predictions"]) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "efficientnet_lite"], 2, "did you mean efficientnet-lite/efficientnet_lite0"),
        (["--model", "shelf/odd"], 1, "shelf/odd has no pretrained weights"),
        (["--model", "shelf/odd", "--checkpoint", "lost.pth"], 2, "lost.pth"),
        (["--model", "shelf/odd", "--checkpoint", "flower.jpg"], 1, "flower.jpg"),
        ([*MODEL, "--num-classes", "3"], 2, "--num-classes needs --checkpoint"),
        ([*MODEL, "--device", "nonsense"], 2, "device 'nonsense' cannot be used"),
        ([*MODEL, "--topk", "0"], 2, "--topk"),
        ([], 2, "--model"),
    ],
)
def test_wrong_requests(predict, arguments, code, message):
    result = predict("flower.jpg", *arguments)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
