"""Predictions with real weights on real photographs, and what disturbs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import zoo
from zoo.data.find import Found
from zoo.data.images import open_image
from zoo.data.transforms import EvalTransform
from zoo.errors import UsageError
from zoo.evaluation.predict import class_names, predict_images
from zoo.evaluation.results import ImageResult

pytest.importorskip("zoo_efficientnet_lite")
datasets = pytest.importorskip("sklearn.datasets")

PHOTOS = Path(datasets.__file__).with_name("images")
FLOWER, CHINA = str(PHOTOS / "flower.jpg"), str(PHOTOS / "china.jpg")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return zoo.create_model("efficientnet-lite/efficientnet_lite0", pretrained=True)


@pytest.fixture(scope="module")
def labels(model: torch.nn.Module) -> list[str]:
    names = class_names(model)
    assert names is not None
    return list(names)


def predict(model: torch.nn.Module, *paths: str | Path, **options: object) -> list[ImageResult]:
    found = [Found(str(path)) for path in paths]
    return list(predict_images(model, found, **options))  # type: ignore[arg-type]


def test_photographs_are_recognised(model: torch.nn.Module, labels: list[str]) -> None:
    flower, china = predict(model, FLOWER, CHINA, labels=labels)
    assert flower.predictions[0].label == "daisy"
    assert flower.predictions[0].probability == pytest.approx(0.32, abs=0.03)
    assert flower.predictions[0].class_index == 985
    assert china.predictions[0].label == "palace"
    assert china.predictions[0].probability == pytest.approx(0.30, abs=0.03)
    for result in (flower, china):
        probabilities = [item.probability for item in result.predictions]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)


def test_equals_the_plain_computation(model: torch.nn.Module) -> None:
    transform = EvalTransform.from_config(model.pretrained_cfg)  # type: ignore[arg-type]
    with torch.no_grad():
        logits = model.eval()(transform(open_image(FLOWER))[None])
    expected = logits.softmax(1)[0]
    (result,) = predict(model, FLOWER, topk=1000)
    assert len(result.predictions) == 1000
    assert sum(item.probability for item in result.predictions) == pytest.approx(1, abs=1e-4)
    for item in result.predictions:
        assert item.probability == pytest.approx(expected[item.class_index].item(), abs=1e-5)


def test_a_batch_equals_single_images_and_keeps_their_order(model: torch.nn.Module) -> None:
    paths = [FLOWER, CHINA, FLOWER, CHINA, CHINA]
    alone = [predict(model, path)[0] for path in paths]
    for size in (1, 2, 32):
        together = predict(model, *paths, batch_size=size)
        for single, batched in zip(alone, together, strict=True):
            assert single.image == batched.image
            for one, other in zip(single.predictions, batched.predictions, strict=True):
                assert one.class_index == other.class_index
                assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_rotated_copies_with_exif_are_the_same_image(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    photo = Image.open(FLOWER)
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.transpose(turn).save(tmp_path / f"{orientation}.png", exif=exif)
    upright, *turned = predict(model, FLOWER, tmp_path / "3.png", tmp_path / "6.png")
    for result in turned:
        for one, other in zip(result.predictions, upright.predictions, strict=True):
            assert one.class_index == other.class_index
            assert one.probability == pytest.approx(other.probability, abs=1e-5)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("CMYK", "tif"), ("RGBA", "png")])
def test_other_modes_of_the_same_photograph(
    model: torch.nn.Module, labels: list[str], tmp_path: Path, mode: str, suffix: str
) -> None:
    path = tmp_path / f"photo.{suffix}"
    Image.open(FLOWER).convert(mode).save(path)
    (result,) = predict(model, path, labels=labels)
    assert "daisy" in [item.label for item in result.predictions]


def test_what_cannot_be_opened_disturbs_no_other(model: torch.nn.Module, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(FLOWER).read_bytes()[:50_000])
    found = [Found(str(broken)), Found(FLOWER), Found("lost.jpg", "no such file or folder")]
    results = list(predict_images(model, found, batch_size=2))
    assert [result.error is None for result in results] == [False, True, False]
    assert results[0].error is not None
    assert "truncated" in results[0].error
    assert results[2] == ImageResult("lost.jpg", error="no such file or folder")
    assert results[1].predictions[0].class_index == 985
    nothing = list(predict_images(model, found[:1]))
    assert len(nothing) == 1


def test_images_are_read_as_they_are_asked_for(model: torch.nn.Module) -> None:
    read = 0

    def endless() -> Iterator[Found]:
        nonlocal read
        while True:
            read += 1
            yield Found(FLOWER)

    results = predict_images(model, endless(), batch_size=3)
    assert next(results).image == FLOWER
    assert read == 3


def test_without_fitting_names_the_index_is_the_label(model: torch.nn.Module) -> None:
    for labels in (None, ["too", "few"]):
        (result,) = predict(model, FLOWER, labels=labels, topk=1)
        assert result.predictions[0].label == "985"


def test_grey_model_sees_grey(tmp_path: Path) -> None:
    class Mean(torch.nn.Module):
        pretrained_cfg = {  # noqa: RUF012
            "input_size": (1, 4, 4), "crop_pct": 1.0, "mean": (0.0,), "std": (1.0,),
        }  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[1:] == (1, 4, 4)
            level = x.mean((1, 2, 3))
            return torch.stack([level, 1 - level], 1).log()

    Image.new("RGB", (9, 9), (102, 102, 102)).save(tmp_path / "grey.png")
    (result,) = predict(Mean(), tmp_path / "grey.png")
    assert {item.class_index: item.probability for item in result.predictions} == pytest.approx(
        {0: 0.4, 1: 0.6}
    )


@pytest.mark.parametrize("options", [{"topk": 0}, {"batch_size": 0}])
def test_impossible_numbers(model: torch.nn.Module, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        predict(model, FLOWER, **options)
