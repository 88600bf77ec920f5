"""Models built through zoo, and weights loaded into them from a hub's cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from zoo_timm.weights import load

import zoo

NAMES = ("test_resnet", "test_vit", "test_efficientnet")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 2])
def test_forward_and_gradients(name: str, batch: int) -> None:
    model = zoo.create_model(f"timm/{name}", num_classes=7, in_chans=1).train(batch > 1)
    logits = model(torch.rand(batch, 1, 160, 160))
    assert logits.shape == (batch, 7)
    logits.square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_round_trip(name: str) -> None:
    images = torch.rand(2, 3, 160, 160)
    model, twin = (zoo.create_model(f"timm/{name}").eval() for _ in range(2))
    assert not torch.equal(model(images), twin(images))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(model(images), twin(images))


def test_timm_s_own_arguments_and_methods() -> None:
    model = zoo.create_model("timm/test_vit", img_size=96, drop_path_rate=0.1).eval()
    images = torch.rand(1, 3, 96, 96)
    assert model(images).shape == (1, 1000)
    assert model.forward_head(model.forward_features(images)).shape == (1, 1000)
    model.reset_classifier(3)
    assert model(images).shape == (1, 3)
    assert model.num_features == 64
    assert model.pretrained_cfg["architecture"] == "test_vit"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A hub's cache, with the hub itself out of reach, and a function that puts weights in."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def put(tagged: str) -> torch.nn.Module:
        model = timm.create_model(tagged.partition(".")[0]).eval()
        repository = tmp_path / f"models--timm--{tagged}"
        commit = "0" * 40
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        save_file(model.state_dict(), snapshot / "model.safetensors")
        return model

    return put


def test_pretrained_weights_of_a_tag(hub) -> None:
    published = hub("test_resnet.r160_in1k")
    images = torch.rand(2, 3, 160, 160)
    for name in ("timm/test_resnet", "timm/test_resnet.r160_in1k"):
        model = zoo.create_model(name, pretrained=True).eval()
        assert torch.equal(model(images), published(images))


def test_pretrained_with_other_classes_channels_and_size(hub) -> None:
    published = hub("test_vit.r160_in1k").state_dict()
    model = zoo.create_model("timm/test_vit", True, num_classes=7, in_chans=1, img_size=96)
    mine = model.state_dict()
    assert model(torch.rand(2, 1, 96, 96)).shape == (2, 7)
    assert torch.equal(mine["blocks.0.attn.qkv.weight"], published["blocks.0.attn.qkv.weight"])
    grey = published["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(mine["patch_embed.proj.weight"], grey)
    assert mine["pos_embed"].shape[1] < published["pos_embed"].shape[1]  # resampled


def test_pretrained_without_a_head(hub) -> None:
    published = hub("test_resnet.r160_in1k")
    model = zoo.create_model("timm/test_resnet", pretrained=True, num_classes=0).eval()
    images = torch.rand(1, 3, 160, 160)
    features = published.forward_head(published.forward_features(images), pre_logits=True)
    assert torch.equal(model(images), features)


def test_weights_that_do_not_fit_are_one_line(hub) -> None:
    hub("test_resnet.r160_in1k")
    with pytest.raises(zoo.WeightsError, match="do not fit the model") as caught:
        zoo.create_model("timm/test_resnet", pretrained=True, channels=(8, 16, 24, 32))
    assert "\n" not in str(caught.value)


def test_out_of_reach_is_one_line_with_the_remedy(hub) -> None:
    with pytest.raises(zoo.WeightsError) as caught:
        zoo.create_model("timm/test_resnet.r160_in1k", pretrained=True)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("timm/test_resnet.r160_in1k: the weights could not be loaded")
    assert "hf-hub:timm/test_resnet.r160_in1k" in message
    assert "checkpoint_path=" in message


def test_out_of_reach_in_a_shell(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zoo", "predict", __file__, "--model", "timm/test_resnet"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "could not be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_loader_refuses_weights_of_another_model() -> None:
    model = zoo.create_model("timm/test_resnet")
    foreign = zoo.Weights(source="hf-hub:timm/resnet18.a1_in1k", loader="zoo_timm.weights:load")
    with pytest.raises(zoo.WeightsError, match="test_resnet has no weights"):
        load(model, foreign, num_classes=1000, in_chans=3)
