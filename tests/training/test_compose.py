"""What does not fit together is told before the first batch, and leaves no folder behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from zoo.errors import UsageError, ZooError
from zoo.training.compose import compose
from zoo.training.session import train


def pictures(folder: Path, counts: dict[str, int], mode: str = "RGB", size=(8, 8)) -> None:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new(mode, size, number % 2).save(folder / name / f"{number}.png")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss": "oddity/index_only", "mixup": 0.2},
            "takes index: leave them out, or choose --loss",
        ),
        (
            {"loss": "oddity/index_only", "smoothing": 0.2},
            "choose --loss oddity/soft_interrupting or",
        ),
        ({"loss": "oddity/metric"}, "is a loss of features"),
        ({"loss": "oddity/rows"}, "returns (2,), not one number"),
        ({"loss": {"zoo/mse": {"weight": 2}}}, "zoo/mse does not take 'weight'"),
        (
            {"loss": "crossentropy"},
            "there is no loss 'crossentropy'; did you mean zoo/cross_entropy",
        ),
        ({"model": "small"}, "there is no model 'small'"),
        (
            {"model": "oddity/features"},
            "returns (2, 64) for two images of 1x8x8, not logits (2, 10)",
        ),
        ({"pretrained": True}, "cifar/small_cnn has no pretrained weights"),
        ({"input_size": [1, 7, 7]}, "small_cnn needs images of at least 8x8"),
        ({"input_size": [2, 8, 8]}, "2 channels"),
        (
            {"model": "oddity/tail", "input_size": [1, 9, 9]},
            "oddity/tail does not take images of 1x9x9",
        ),
        ({"model_kwargs": {"width": 3}}, "cifar/small_cnn does not take 'width'"),
        ({"dataset": "digit"}, "there is no data set 'digit'; did you mean zoo/digits"),
        ({"val_split": "val"}, "zoo/digits has no split 'val'"),
        ({"no_aug": True, "mixup": 0.1}, "no_aug leaves out mixup"),
        ({"augment": ["zoo/rotate"]}, "there is no augmentation 'zoo/rotate'"),
        ({"opt": "adamx"}, "there is no optimizer 'adamx'; did you mean adam"),
        ({"opt": "adahessian"}, "the optimizer adahessian needs second derivatives"),
        ({"opt": "lookahead_adahessian", "ops": "fused"}, "needs second derivatives"),
        ({"opt_kwargs": {"speed": 3}}, "the optimizer adamw refuses"),
        ({"device": "cuda"}, "no CUDA device"),
        ({"amp": True, "amp_dtype": "float16", "device": "cpu"}, "half precision is bfloat16"),
        ({"initial_checkpoint": "none.safetensors"}, "none.safetensors"),
    ],
)
def test_refusals(config, tmp_path, settings, message):
    if settings.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ZooError) as error:
        train(config(**settings), tmp_path / "a")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_losses_of_other_targets(config):
    task = compose(config(loss="oddity/many"))
    logits, targets = torch.randn(3, 10), torch.tensor([1, 2, 3])
    expected = nn.MultiLabelSoftMarginLoss()(logits, nn.functional.one_hot(targets, 10).float())
    assert task.loss(logits, targets) == expected


def test_sizes_come_from_the_data_where_the_model_takes_any(config):
    task = compose(config())
    assert task.preprocessing["input_size"] == (1, 8, 8)
    assert task.model_kwargs == {"num_classes": 10, "in_chans": 1, "img_size": (8, 8)}
    assert task.preprocessing["crop_pct"] == 1.0
    assert len(task.preprocessing["mean"]) == 1
    asked = compose(config(input_size=(3, 16, 16)))
    assert asked.model_kwargs == {"num_classes": 10, "in_chans": 3, "img_size": (16, 16)}


def test_folder_without_splits_keeps_some_for_evaluation(config, tmp_path):
    pictures(tmp_path / "data", {"a": 10, "b": 20, "c": 2})
    task = compose(config(dataset=str(tmp_path / "data"), model="oddity/restless"))
    data = task.data
    assert torch.bincount(data.evaluation.targets).tolist() == [2, 4]
    assert torch.bincount(data.train.targets).tolist() == [8, 16, 2]
    assert not {*data.train.paths} & {*data.evaluation.paths}
    assert data.split == "20% of train"
    assert data.notes == ("no images in 20% of train of the class 'c'",)
    assert data.train.paths == compose(task.config).data.train.paths
    with pytest.raises(UsageError, match="too few images"):
        compose(config(dataset=str(tmp_path / "data"), model="oddity/restless", val_share=0.01))


def test_class_that_is_missing_in_validation_is_told(config, tmp_path, capfd):
    pictures(tmp_path / "data" / "train", {"a": 6, "b": 6})
    pictures(tmp_path / "data" / "val", {"a": 2})
    settings = {"dataset": str(tmp_path / "data"), "model": "oddity/restless", "batch_size": 4}
    outcome = train(config(**settings), tmp_path / "a")
    assert len(outcome.history) == 2
    assert "no images in val of the class 'b'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("counts", "message"),
    [({"a": 3}, "one class, 'a'"), ({}, "no class folders"), ({"a": 2, "b": 0}, "holds no images")],
)
def test_poor_folders(config, tmp_path, counts, message):
    (tmp_path / "data").mkdir()
    pictures(tmp_path / "data", counts)
    with pytest.raises(ZooError) as error:
        train(config(dataset=str(tmp_path / "data"), model="oddity/restless"), tmp_path / "a")
    assert message in str(error.value)


def test_pictures_of_all_kinds(config, tmp_path):
    """Modes, sizes, orientations; and a file that is cut short, which is skipped or fatal."""
    data = tmp_path / "data"
    pictures(data, {"a": 6, "b": 6}, size=(12, 9))
    for mode in ("L", "P", "RGBA", "CMYK", "I;16", "1", "LA"):
        suffix = "tif" if mode == "CMYK" else "png"
        Image.new(mode, (5, 17)).save(data / "a" / f"mode{mode.replace(';', '')}.{suffix}")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10), "red").save(data / "b" / "turned.jpg", exif=exif)
    whole = (data / "b" / "turned.jpg").read_bytes()
    (data / "b" / "short.jpg").write_bytes(whole[: len(whole) // 2])
    settings = {"dataset": str(data), "model": "oddity/restless", "batch_size": 5}
    assert len(train(config(**settings), tmp_path / "a").history) == 2
    with pytest.raises(ZooError, match=r"short\.jpg") as error:
        train(config(**settings, on_error="raise", val_share=0.4), tmp_path / "b")
    assert "\n" not in str(error.value)


def test_checkpoint_of_another_architecture(config, tmp_path):
    train(config(epochs=1), tmp_path / "a")
    start = str(tmp_path / "a" / "last.safetensors")
    with pytest.raises(
        ZooError, match=r"is a checkpoint of cifar/small_cnn, not of cifar/resnet20"
    ):
        train(config(model="cifar/resnet20", initial_checkpoint=start), tmp_path / "b")
    from safetensors.torch import load_file, save_file

    held = load_file(start)
    del held["conv2.bias"]
    save_file(held, tmp_path / "poor.safetensors")
    poor = str(tmp_path / "poor.safetensors")
    with pytest.raises(ZooError, match=r"1 missing \(conv2.bias\)"):
        train(config(initial_checkpoint=poor), tmp_path / "b")
