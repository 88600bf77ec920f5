"""``zoo evaluate`` as its users call it, and ``zoo predict`` with a checkpoint alone."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from zoo.checkpoints import Checkpoint, save_checkpoint

datasets = pytest.importorskip("sklearn.datasets")
pytest.importorskip("torchmetrics")

PHOTOS = Path(datasets.__file__).with_name("images")
TIMM_COLUMNS = [
    "model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct",
    "interpolation",
]  # fmt: skip

PLUGIN = """
import torch
import zoo
from zoo.data.datasets.hierarchy import Hierarchy


class Dots:
    classes = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]

    def __init__(self, *, split, transform=None):
        self.images = torch.rand(12, 1, 8, 8)
        self.targets = torch.arange(12) % 10
        if split == "test":
            self.targets[5] = 10
        words = {name: name for name in self.classes} | {"low": "low"}
        self.hierarchy = Hierarchy(self.classes, words, {"a": ["low"], "b": ["low"]})

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.images[index], int(self.targets[index])


@zoo.hookimpl
def zoo_datasets():
    return [zoo.Dataset("dots", factory="dotted:Dots", splits=("train", "val", "test"))]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with checkpoints of two small models of digits, one trained longer."""
    import zoo
    from zoo.data.loader import Loader
    from zoo.data.pipeline import eval_transform

    folder = tmp_path_factory.mktemp("runs")
    digits = zoo.create_dataset("zoo/digits", split="train")
    size = {"num_classes": 10, "in_chans": 1, "img_size": 8}
    config = {
        "input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,),
        "interpolation": "bilinear", "crop_pct": 1.0,
    }  # fmt: skip
    loader = Loader(digits, 64, transform=eval_transform(**config), shuffle=True)
    for name, epochs in (("long", 5), ("short", 2)):
        torch.manual_seed(0)
        model = zoo.create_model("cifar/small_cnn", **size)
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for epoch in range(epochs):
            loader.set_epoch(epoch)
            for batch in loader:
                loss = torch.nn.functional.cross_entropy(model(batch.images), batch.targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        info = Checkpoint(
            architecture="cifar/small_cnn", model_kwargs=size, pretrained_cfg=config,
            classes=[f"digit {i}" for i in range(10)] if name == "long" else list("0123456789"),
        )  # fmt: skip
        save_checkpoint(folder / f"{name}.safetensors", model.state_dict(), info)
    return folder


@pytest.fixture
def evaluate(zoo, trained, tmp_path, monkeypatch):
    """Run ``zoo evaluate`` in a folder with the two checkpoints."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    os.environ["ZOO_PLUGINS"] = "zoo,cifar,efficientnet-lite"
    return lambda *arguments: zoo("evaluate", *arguments)


DIGITS = ("--checkpoint", "short.safetensors", "--dataset", "digits")


def test_table(evaluate):
    result = evaluate(*DIGITS)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(
        "cifar/small_cnn (short.safetensors) on digits (test): 360 images, 10 classes\n"
    )
    lines = result.stdout.splitlines()
    (top1,) = (line for line in lines if line.startswith("top-1 accuracy"))
    value, interval = top1.split()[2:]
    low, high = map(float, interval.split(".."))
    assert 80 < low < float(value) < high < 100
    assert sum(line.split()[:2] == ["7", "36"] for line in lines) == 1
    assert "images/s" in lines[-1]
    assert result.stderr == "optimizing cifar/small_cnn (short.safetensors)\n"


def test_json_and_csv_say_the_same_optimized_or_not(evaluate):
    plain = evaluate(*DIGITS, "--no-optimize", "--format", "json", "-b", "100")
    assert (plain.exit_code, plain.stderr) == (0, "")
    document = json.loads(plain.stdout)
    assert document["header"]["optimized"] is False
    assert [each["class"] for each in document["classes"]] == list("0123456789")
    assert sum(each["images"] for each in document["classes"]) == 360
    assert sum(n for row, column, n in document["confusion"]) == 360
    right = sum(n for row, column, n in document["confusion"] if row == column)
    assert document["figures"]["top1"]["value"] == pytest.approx(100 * right / 360)
    assert len(document["mistakes"]) == 360 - right
    assert document["speed"]["batch_size"] == 100

    fast = json.loads(evaluate(*DIGITS, "--format", "json").stdout)
    for name, figure in fast["figures"].items():
        assert figure["value"] == pytest.approx(document["figures"][name]["value"], abs=1e-3)

    table = evaluate(*DIGITS, "--format", "csv", "--output", "results.csv")
    assert table.stdout == ""
    (row,) = csv.DictReader(io.StringIO(Path("results.csv").read_text()))
    assert list(row) == TIMM_COLUMNS
    assert float(row["top1"]) == pytest.approx(100 * right / 360, abs=1e-3)
    assert float(row["top1"]) + float(row["top1_err"]) == pytest.approx(100)
    assert (row["img_size"], row["crop_pct"], row["param_count"]) == ("8", "1.000", "0.02")
    again = evaluate(*DIGITS, "--output", "results.csv")
    assert again.exit_code == 2
    assert "results.csv exists" in again.stderr


def test_report(evaluate):
    pytest.importorskip("jinja2")
    result = evaluate(*DIGITS, "--report", "report")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path("report").iterdir()) == [
        "index.html", "report.json", "results.csv",
    ]  # fmt: skip
    page = Path("report/index.html").read_text()
    document = json.loads(Path("report/report.json").read_text())
    assert f"{document['figures']['top1']['value']:.2f}<small> %" in page
    assert page.count("data:image/png;base64") == min(24, len(document["mistakes"]))
    assert Path("report/results.csv").read_text().splitlines()[0] == ",".join(TIMM_COLUMNS)
    again = evaluate(*DIGITS, "--report", "report")
    assert again.exit_code == 2
    assert "report exists and is not empty: choose another name or add --force" in again.stderr
    assert evaluate(*DIGITS, "--report", "report", "--force").exit_code == 0


def test_ensemble(evaluate):
    result = evaluate(
        "--ensemble", "short.safetensors,long.safetensors", "--dataset", "digits",
        "--format", "csv", "--report", "report",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "Members of the ensemble" in Path("report/index.html").read_text()
    both, short, long = csv.DictReader(io.StringIO(result.stdout))
    assert both["model"] == f"{short['model']} + {long['model']}"
    assert float(both["top1"]) > float(short["top1"])
    (alone,) = csv.DictReader(io.StringIO(evaluate(*DIGITS, "--format", "csv").stdout))
    assert alone == short


def test_photographs_by_the_names_of_their_classes(evaluate):
    pytest.importorskip("zoo_efficientnet_lite")
    for name, photo in (("Daisy", "flower.jpg"), ("palace", "china.jpg")):
        Path("photos", name).mkdir(parents=True)
        shutil.copy(PHOTOS / photo, Path("photos", name))
    Path("photos/palace/cut.jpg").write_bytes((PHOTOS / "china.jpg").read_bytes()[:30_000])
    shutil.copy(PHOTOS / "china.jpg", "photos/Daisy/wrong.jpg")
    Image.new("L", (40, 30), 128).save("photos/palace/grey.png")
    result = evaluate(
        "--model", "efficientnet-lite/efficientnet_lite0", "--dataset", "photos",
        "--split", "train", "--format", "json", "--no-optimize", "--report", "report",
    )  # fmt: skip
    assert result.exit_code == 1  # as one image could not be read
    document = json.loads(result.stdout)
    assert document["header"]["images"] == 4
    (unreadable,) = document["header"]["unreadable"]
    assert unreadable["image"].endswith("cut.jpg")
    assert "truncated" in unreadable["error"]
    assert {"predicted": "palace", "class": "Daisy"}.items() <= document["mistakes"][0].items()
    assert document["results"][0]["img_size"] == 224
    assert "data:image/jpeg;base64" in Path("report/index.html").read_text()


def test_a_class_that_validation_lacks(evaluate):
    Path("pictures/val").mkdir(parents=True)
    for name in "0123456789":
        Path("pictures/train", name).mkdir(parents=True)
        Image.new("L", (8, 8), int(name)).save(f"pictures/train/{name}/a.png")
    Path("pictures/val/3").mkdir()
    Image.new("L", (8, 8), 200).save("pictures/val/3/b.png")
    result = evaluate(
        "--checkpoint", "short.safetensors", "--dataset", "pictures", "--format", "json"
    )
    assert result.exit_code == 0, result.stderr
    classes = {row["class"]: row for row in json.loads(result.stdout)["classes"]}
    assert classes["3"]["images"] == 1
    assert classes["4"]["f1"] is None


def test_coarser_level(evaluate):
    Path("dotted.py").write_text(PLUGIN)
    arguments = (
        "-p",
        "./dotted.py",
        "--checkpoint",
        "long.safetensors",
        "--dataset",
        "dotted/dots",
    )
    result = evaluate(*arguments, "--level", "low", "--report", "report")
    assert result.exit_code == 0, result.stderr
    assert "At the level of low" in Path("report/index.html").read_text()
    assert "At the level of low:" in result.stdout
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("low "))
    assert line.split()[1] == "4"
    wrong = evaluate(*arguments, "--level", "lo")
    assert wrong.exit_code == 2
    assert "did you mean low?" in wrong.stderr
    bad = evaluate(*arguments, "--split", "test")
    assert bad.exit_code == 1
    assert "image 5 has the label 10, beyond the 10 classes" in bad.stderr


def test_prediction_names_the_classes_of_the_checkpoint(evaluate, zoo):
    digit = zoo_digit(4)
    digit.save("four.png")
    result = zoo("predict", "four.png", "--checkpoint", "long.safetensors", "--format", "json")
    assert result.exit_code == 0, result.stderr
    (item,) = json.loads(result.stdout)
    assert item["predictions"][0]["label"] == "digit 4"
    named = zoo(
        "predict", "four.png", "--checkpoint", "long.safetensors", "--model", "small_cnn",
        "--format", "json",
    )  # fmt: skip
    assert named.stdout == result.stdout


def zoo_digit(number):
    """A test image of a digit, as a picture."""
    import zoo

    digits = zoo.create_dataset("zoo/digits", split="test")
    index = digits.targets.tolist().index(number)
    return Image.fromarray((digits.images[index, 0] * 255).byte().numpy())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dataset", "digits"], 2, "which model? give --model NAME, or --checkpoint FILE"),
        (["--checkpoint", "short.safetensors"], 2, "--dataset"),
        (["--model", "shelf/odd", "--dataset", "digits"], 1, "has no pretrained weights"),
        ([*DIGITS, "--split", "val"], 2, "no split 'val'; there are train, test"),
        ([*DIGITS[:3], "digit"], 2, "did you mean zoo/digits"),
        ([*DIGITS[:3], "empty", "--split", "train"], 1, "empty"),
        ([*DIGITS[:3], "few"], 2, "has none of the splits val, validation and test"),
        ([*DIGITS[:3], "few", "--split", "train"], 2, "'x', 'y' are not the model's"),
        ([*DIGITS, "--level", "dog"], 2, "has no hierarchy"),
        ([*DIGITS, "--num-classes", "9"], 2, "short.safetensors has 10 classes"),
        ([*DIGITS, "--model", "cifar/resnet20"], 1, "of cifar/small_cnn, not of cifar/resnet20"),
        ([*DIGITS, "--ensemble", "a,b"], 2, "leave out --model and --checkpoint"),
        (["--ensemble", "short.safetensors", "--dataset", "digits"], 2, "two models or more"),
        (["--ensemble", "short.safetensors,lost", "--dataset", "digits"], 2, "'lost'"),
        (["--checkpoint", "cut.safetensors", "--dataset", "digits"], 1, "is damaged"),
        (["--checkpoint", "plain.pth", "--dataset", "digits"], 1, "name it (--model NAME)"),
        ([*DIGITS, "--report", "plain.pth/report"], 1, "cannot make the folder plain.pth/report"),
        ([*DIGITS, "--report", "none/report"], 1, "No such file or directory"),
        ([*DIGITS, "--output", "none/a.json"], 2, "the folder none does not exist"),
        ([*DIGITS, "--device", "nonsense"], 2, "device 'nonsense' cannot be used"),
        ([*DIGITS, "--optimize", "--device", "meta"], 2, "leave out --device meta"),
        ([*DIGITS, "--input-size", "2", "8", "8"], 2, "2 channels"),
        ([*DIGITS, "--input-size", "1", "12", "8"], 2, "cannot take inputs of 1x12x8"),
    ],
)
def test_wrong_requests(evaluate, arguments, code, message):
    Path("empty").mkdir()
    for name in "xy":
        Path("few", name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(f"few/{name}/a.png")
    content = Path("short.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(content[: len(content) // 2])
    torch.save({"a": torch.ones(1)}, "plain.pth")
    result = evaluate(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
