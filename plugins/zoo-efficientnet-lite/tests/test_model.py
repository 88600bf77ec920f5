"""The packaged weights: the right tensors, and the right animals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from zoo_efficientnet_lite import zoo_architectures
from zoo_efficientnet_lite.model import convert, labels

import zoo

NAME = "efficientnet-lite/efficientnet_lite0"
SPEC = zoo_architectures()[0]


def preprocess(picture: Image.Image) -> torch.Tensor:
    """What the spec says: short side to 256, bicubic; centre crop 224; to [-1, 1]."""
    width, height = picture.size
    scale = 256 / min(width, height)
    picture = picture.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left, top = (round((side - 224) / 2) for side in picture.size)
    picture = picture.crop((left, top, left + 224, top + 224))
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255 - 0.5)[None] / 0.5


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return zoo.create_model(NAME, pretrained=True).eval()


@pytest.mark.parametrize(
    ("file", "label", "probability"), [("flower.jpg", "daisy", 0.32), ("china.jpg", "palace", 0.30)]
)
def test_known_photographs(model, file, label, probability) -> None:
    samples = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn's photographs")
    picture = Image.fromarray(samples.load_sample_image(file))
    with torch.no_grad():
        probabilities = model(preprocess(picture)).softmax(1)[0]
    best = int(probabilities.argmax())
    assert labels()[best] == label
    assert float(probabilities[best]) == pytest.approx(probability, abs=0.01)


def test_every_tensor_has_its_counterpart(model) -> None:
    """Names in the file follow one scheme, so the order of the layers can be checked by kind."""
    from zoo.weights import locate, read

    weights = SPEC.weights["in1k"]
    state = read(locate(weights.source, weights.sha256), weights.sha256)
    own = model.state_dict()
    converted = convert(state, model)
    assert list(converted) == list(own)
    for (theirs, tensor), name in zip(state.items(), own, strict=True):
        assert tensor.shape == own[name].shape
        assert theirs.rpartition(".")[2] == name.rpartition(".")[2]
        assert torch.equal(tensor, own[name])


def test_convert_refuses_another_model() -> None:
    with pytest.raises(zoo.WeightsError, match="the file has 1 tensors"):
        convert({"weight": torch.zeros(1)}, zoo.create_model(NAME))


def test_declared_values_are_true(model) -> None:
    assert sum(p.numel() for p in model.parameters()) == SPEC.params
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, *SPEC.input_size))
    assert counter.get_total_flops() == 2 * SPEC.macs
    config = model.pretrained_cfg
    assert config["input_size"] == (3, 224, 224)
    assert config["mean"] == config["std"] == (0.5, 0.5, 0.5)
    assert config["interpolation"] == "bicubic"
    assert config["crop_pct"] == 0.875
    assert config["resize_size"] == 256
    assert len(labels()) == config["num_classes"] == 1000
    assert isinstance(model.get_submodule(SPEC.cam_target), torch.nn.Conv2d)


@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_are_finite(batch) -> None:
    model = zoo.create_model(NAME, num_classes=4).train(batch > 1)
    model(torch.rand(batch, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_features_and_head_make_up_the_model(model) -> None:
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        features = model.forward_features(images)
        assert features.shape[1] == model.num_features == 1280
        torch.testing.assert_close(model.forward_head(features), model(images))


@pytest.mark.parametrize("num_classes", [0, 5])
def test_another_head_keeps_the_trained_body(model, num_classes) -> None:
    other = zoo.create_model(NAME, pretrained=True, num_classes=num_classes).eval()
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(other.forward_features(images), model.forward_features(images))
        assert other(images).shape == (1, num_classes or 1280)


def test_grey_images(model) -> None:
    grey = zoo.create_model(NAME, pretrained=True, in_chans=1).eval()
    images = torch.rand(1, 1, 224, 224) * 2 - 1
    with torch.no_grad():
        expected = model(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey(images), expected, rtol=1e-3, atol=1e-3)
