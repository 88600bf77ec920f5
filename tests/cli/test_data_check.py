"""zoo data check: what it finds in folders with planted mistakes, and how it says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.checkpoints import Checkpoint, save_checkpoint
from zoo.data.check import scan
from zoo.data.datasets.base import ImagesInMemory
from zoo.data.images import ImageError

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def picture(seed: int, colour: str = "red", size: tuple[int, int] = (40, 32)) -> Image.Image:
    """Blocks at random about a colour: every seed is another picture."""
    random = np.random.default_rng(seed)
    grey = random.integers(-40, 40, (4, 5))
    pixels = (np.array(COLOURS[colour]) + grey[..., None]).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def write(root: Path, per_class: int = 6) -> Path:
    for number, split in enumerate(("train", "val")):
        for index, colour in enumerate(COLOURS):
            folder = root / split / colour
            folder.mkdir(parents=True)
            for n in range(per_class):
                seed = 1000 * number + 100 * index + n
                picture(seed, colour).save(folder / f"{n}.png")
    return root


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write(tmp_path / "photos")


@pytest.fixture
def messy(clean: Path) -> Path:
    train, val = clean / "train", clean / "val"
    whole = (train / "red" / "0.png").read_bytes()
    (train / "red" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (val / "red" / "copy.png").write_bytes(whole)  # leakage
    picture(1, "red").resize((20, 16)).save(val / "red" / "small.png")  # leakage, nearly
    picture(102, "green").save(train / "blue" / "wrong.png")  # two labels
    Image.open(train / "blue" / "0.png").convert("L").resize((80, 64)).save(
        train / "blue" / "grey.jpg"
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(7, "blue", (32, 40)).save(train / "blue" / "turned.png", exif=exif)
    for name in list(val.glob("green/*")):
        name.unlink()
    (val / "green").rmdir()
    return clean


def check(zoo: Callable, *arguments: object) -> dict:
    result = zoo("data", "check", *map(str, arguments), "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_clean_folder(zoo, clean: Path) -> None:
    found = check(zoo, clean)
    assert (found["images"], found["splits"]) == (36, {"train": 18, "val": 18})
    assert found["classes"][0] == {"class": "blue", "train": 6, "val": 6}
    assert found["width"] == {"min": 40, "median": 40, "max": 40}
    assert (found["modes"], found["sizes"], found["turned_by_exif"]) == ({"RGB": 36}, 1, 0)
    assert (found["problems"], found["duplicates"], found["unreadable"]) == ([], [], [])
    assert found["suspicious"] is None
    result = zoo("data", "check", str(clean), "--strict")
    assert result.exit_code == 0
    assert "size      40 x 32, all" in result.stdout
    assert result.stdout.endswith("problems\n  none found\n")
    assert result.stderr == ""


def test_statistics_are_those_of_the_pixels_to_train_on(zoo, clean: Path) -> None:
    found = check(zoo, clean)
    files = sorted((clean / "train").glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]) / 255
    assert found["mean"] == pytest.approx(pixels.mean((0, 1, 2)).tolist(), abs=1e-9)
    assert found["std"] == pytest.approx(pixels.std((0, 1, 2)).tolist(), abs=1e-9)


def test_what_is_wrong_is_found(zoo, messy: Path) -> None:
    found = check(zoo, messy)
    assert [Path(row["path"]).name for row in found["unreadable"]] == ["cut.png"]
    assert "truncated" in found["unreadable"][0]["error"]
    groups = {
        tuple(sorted(Path(image["path"]).relative_to(messy).as_posix() for image in g["images"])): (
            g["exact"], g["across_splits"], g["labels_differ"]
        )
        for g in found["duplicates"]
    }  # fmt: skip
    assert groups == {
        ("train/red/0.png", "val/red/copy.png"): (True, True, False),
        ("train/red/1.png", "val/red/small.png"): (False, True, False),
        ("train/blue/wrong.png", "train/green/2.png"): (True, False, True),
        ("train/blue/0.png", "train/blue/grey.jpg"): (False, False, False),
    }
    assert found["modes"] == {"RGB": 34, "L": 1}
    assert found["turned_by_exif"] == 1
    assert found["height"] == {"min": 16, "median": 32, "max": 64}  # turned.png is upright
    assert found["problems"] == [
        "no images in val of the class 'green'",
        "1 image cannot be read",
        "1 group of identical images in more than one split (leakage)",
        "1 group of identical images with different labels",
        "1 group of nearly identical images in more than one split (leakage)",
        "1 group of nearly identical images within a split and class",
    ]


def test_table_and_strict(zoo, messy: Path) -> None:
    result = zoo("data", "check", str(messy), "--strict")
    assert result.exit_code == 1
    assert "unreadable (1)" in result.stdout
    assert "duplicates (4)" in result.stdout
    assert "  no images in val of the class 'green'" in result.stdout
    assert zoo("data", "check", str(messy)).exit_code == 0


def test_one_split_alone(zoo, messy: Path) -> None:
    found = check(zoo, messy, "--split", "val")
    assert found["splits"] == {"val": 14}
    assert found["problems"] == ["no images in val of the class 'green'"]
    result = zoo("data", "check", str(messy), "--split", "test")
    assert (result.exit_code, "has no split 'test'" in result.stderr) == (2, True)


def test_a_split_that_cannot_be_opened_leaves_the_others(zoo, clean: Path) -> None:
    for file in (clean / "val" / "red").iterdir():
        file.unlink()
    found = check(zoo, clean)
    assert found["splits"] == {"train": 18}
    assert found["problems"][0].startswith("split val cannot be opened: ")
    assert "red holds no images" in found["problems"][0]


def test_imbalance_and_one_class(zoo, tmp_path: Path) -> None:
    for n in range(20):
        (tmp_path / "many").mkdir(exist_ok=True)
        picture(n, "red").save(tmp_path / "many" / f"{n}.png")
    assert check(zoo, tmp_path)["problems"] == ["there is one class: nothing to tell apart"]
    (tmp_path / "few").mkdir()
    for n in range(2):
        picture(100 + n, "blue").save(tmp_path / "few" / f"{n}.png")
    assert check(zoo, tmp_path)["problems"] == ["train: 'many' has 20 images, 'few' has 2"]


def test_nothing_readable(zoo, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"nothing")
    found = check(zoo, tmp_path)
    assert (found["width"], found["mean"]) == (None, None)
    assert found["problems"] == ["2 images cannot be read"]
    assert "mean" not in zoo("data", "check", str(tmp_path)).stdout


def test_csv_files_and_many_classes(zoo, tmp_path: Path) -> None:
    for n in range(30):
        picture(n).save(tmp_path / f"{n}.png")
    rows = "".join(f"{n}.png,c{n}\n" for n in range(30))
    (tmp_path / "labels.csv").write_text("path,label\n" + rows)
    found = check(zoo, tmp_path / "labels.csv")
    assert len(found["classes"]) == 30
    table = zoo("data", "check", str(tmp_path / "labels.csv")).stdout
    assert "(10 more)" in table


# --- with a model ----------------------------------------------------------------------------


@pytest.fixture
def judge(environment: None, tmp_path: Path) -> Path:
    """A checkpoint of the shelf's network that tells the three colours."""
    from zoo.models import create_model

    model = create_model("shelf/odd", num_classes=3)
    # In the order blue, green, red of the classes, over the means of red, green, blue.
    state = {"2.weight": 20 * torch.eye(3).flip(0), "2.bias": torch.zeros(3)}
    assert state.keys() == model.state_dict().keys()
    config = {"input_size": (3, 32, 32), "mean": (0.0,) * 3, "std": (1.0,) * 3, "crop_pct": 1.0}
    info = Checkpoint(
        architecture="shelf/odd",
        model_kwargs={"num_classes": 3, "in_chans": 3},
        classes=["blue", "green", "red"],
        pretrained_cfg={**config, "interpolation": "bilinear"},
    )
    save_checkpoint(tmp_path / "judge.safetensors", state, info)
    return tmp_path / "judge.safetensors"


def test_suspicious_labels(zoo, clean: Path, judge: Path) -> None:
    # Brighter than the others, so that the model is surer than it is of a usual green image.
    Image.new("RGB", (40, 32), (0, 255, 0)).save(clean / "train" / "red" / "7.png")
    found = check(zoo, clean, "--checkpoint", judge)
    (row,) = found["suspicious"]
    assert Path(row["path"]).name == "7.png"
    assert (row["label"], row["predicted"]) == ("red", "green")
    assert row["label_probability"] < 1e-6 < 0.99 < row["probability"]
    assert found["problems"][-1] == "1 label that the model contradicts"
    table = zoo("data", "check", str(clean), "--checkpoint", str(judge)).stdout
    assert "suspicious labels (1)" in table


def test_models_that_do_not_fit(zoo, clean: Path, judge: Path) -> None:
    (clean / "train" / "violet").mkdir()
    picture(5).save(clean / "train" / "violet" / "1.png")
    result = zoo("data", "check", str(clean), "--checkpoint", str(judge))
    assert result.exit_code == 2
    assert "'violet' is not the model's" in result.stderr
    result = zoo("data", "check", str(clean), "--model", "shelf/odd")
    assert "has no pretrained weights" in result.stderr


# --- the contact sheet -----------------------------------------------------------------------


def has(image: Image.Image, colour: str) -> bool:
    rgb = tuple(bytes.fromhex(colour.removeprefix("#")))
    return bool((np.asarray(image) == rgb).all(-1).any())


def test_contact_sheet(zoo, messy: Path, judge: Path, tmp_path: Path) -> None:
    from zoo.data.check.sheet import _DIFFER, _DOUBT, _LEAK, _TWICE

    plain, marked = tmp_path / "plain.png", tmp_path / "marked.png"
    check(zoo, messy, "--contact-sheet", plain)
    with Image.open(plain) as sheet:
        assert sheet.mode == "RGB"
        assert [has(sheet, c) for c in (_DOUBT, _LEAK, _DIFFER, _TWICE)] == [False] + [True] * 3
        height = sheet.height
        pixels = np.asarray(sheet)
        for colour in COLOURS.values():  # pictures of each class are in it
            assert (np.abs(pixels.astype(int) - colour).max(-1) < 40).sum() > 2000
    Image.new("RGB", (40, 32), (0, 255, 0)).save(messy / "train" / "red" / "7.png")
    check(zoo, messy, "--contact-sheet", marked, "--checkpoint", judge)
    with Image.open(marked) as sheet:
        assert has(sheet, _DOUBT)
        assert sheet.height > height  # a section for them


def test_contact_sheet_of_many_classes_and_long_names(zoo, tmp_path: Path) -> None:
    for n in range(70):
        folder = tmp_path / "photos" / f"class {n} " / ("with a long name " * 5)
        folder.mkdir(parents=True)
        picture(n).save(folder / "1.png")
    check(zoo, tmp_path / "photos", "--contact-sheet", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert 1000 < sheet.height < 4000


def test_output_files_are_not_overwritten_without_being_told_to(zoo, clean: Path, tmp_path) -> None:
    out, sheet = tmp_path / "out.json", tmp_path / "sheet.png"
    arguments = ["data", "check", str(clean), "--format", "json", "-o", str(out)]
    arguments += ["--contact-sheet", str(sheet)]
    assert zoo(*arguments).exit_code == 0
    assert json.loads(out.read_text())["images"] == 36
    for left in (out, sheet):
        (sheet if left is out else out).unlink(missing_ok=True)
        result = zoo(*arguments)
        assert (result.exit_code, f"{left} exists" in result.stderr) == (2, True)
        assert zoo(*arguments, "--force").exit_code == 0
    result = zoo("data", "check", str(clean), "--contact-sheet", str(tmp_path / "sheet.jpg"))
    assert "must end in .png" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 2, "there is no data set 'nowhere'"),
        (["./nowhere"], 2, "no such file or folder"),
        (["empty"], 1, "has no class folders: put the images of each class"),
        (["shelf/hinge"], 1, "'shelf:nothing' does not exist"),
    ],
)
def test_what_cannot_be_checked_is_one_line(zoo, tmp_path, monkeypatch, arguments, code, message):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    result = zoo("data", "check", *arguments)
    assert result.exit_code == code
    assert (result.stdout, result.stderr.count("Error:")) == ("", 1)
    assert message in result.stderr


def test_pixels_that_are_no_numbers(tmp_path: Path) -> None:
    images = torch.rand(3, 1, 8, 8)
    images[1, 0, 2, 2] = torch.nan
    data = ImagesInMemory(images, torch.tensor([0, 1, 0]), ("a", "b"))
    with pytest.raises(ImageError, match="not finite"):
        scan.picture(data, 1)
    assert scan.picture(data, 0).size == (8, 8)


def test_digits_in_memory(zoo_process) -> None:
    pytest.importorskip("sklearn", reason="needs the extra [demo]")
    done = zoo_process("data", "check", "digits", "--format", "json", ZOO_PLUGINS="zoo")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["splits"] == {"train": 1437, "test": 360}
    assert found["mean"] == pytest.approx([0.3054], abs=5e-5)  # as the registry says
    assert found["std"] == pytest.approx([0.3761], abs=5e-5)
    assert found["modes"] == {"L": 1797}
