"""The plugin ``cifar``: layers, declared counts, and the methods that models share with timm's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.builtin.cifar import zoo_architectures
from zoo.builtin.cifar_resnet import BasicBlock
from zoo.builtin.small_cnn import SmallCNN

SPECS = {spec.name: spec for spec in zoo_architectures()}
each_model = pytest.mark.parametrize("name", SPECS)


def create(name: str, **kwargs) -> nn.Module:
    return zoo.create_model(f"cifar/{name}", **kwargs)


@each_model
def test_declared_params_and_macs_are_true(name: str) -> None:
    spec, model = SPECS[name], create(name).eval()
    assert sum(p.numel() for p in model.parameters()) == spec.params
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, *spec.input_size))
    assert counter.get_total_flops() == 2 * spec.macs


@each_model
@pytest.mark.parametrize("batch", [1, 2])
def test_logits_and_gradients_are_finite(name: str, batch: int) -> None:
    model = create(name)
    logits = model(torch.rand(batch, 3, 32, 32))
    assert logits.shape == (batch, 10)
    logits.square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert any(parameter.grad.any() for parameter in model.parameters())


@each_model
def test_classes_channels_and_sizes_are_respected(name: str) -> None:
    model = create(name, num_classes=7, in_chans=1, img_size=(28, 20)).eval()
    images = torch.rand(2, 1, 28, 20)
    assert model(images).shape == (2, 7)
    assert model.num_classes == 7


@each_model
def test_features_and_head_make_up_the_model(name: str) -> None:
    model = create(name).eval()
    images = torch.rand(2, 3, 32, 32)
    features = model.forward_features(images)
    assert features.ndim == 4
    assert features.shape[:2] == (2, 64)
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (2, model.num_features)
    torch.testing.assert_close(model.forward_head(features), model(images))

    model.reset_classifier(5)
    assert model(images).shape == (2, 5)
    model.reset_classifier(0)
    torch.testing.assert_close(model(images), pooled)


@each_model
def test_state_dict_round_trip(name: str) -> None:
    images = torch.rand(2, 3, 32, 32)
    model, twin = create(name).eval(), create(name).eval()
    assert not torch.equal(model(images), twin(images))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(model(images), twin(images))


@each_model
def test_grad_cam_target_is_a_module(name: str) -> None:
    assert isinstance(create(name).get_submodule(SPECS[name].cam_target), nn.Module)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 40), width=st.integers(8, 40))
def test_small_cnn_sizes_its_dense_layer_from_the_image(height: int, width: int) -> None:
    model = SmallCNN(img_size=(height, width)).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, height, width)).shape == (1, 10)


def test_small_cnn_has_the_tutorial_s_layers() -> None:
    shapes = [tuple(p.shape) for p in create("small_cnn").parameters()]
    assert shapes == [(32, 3, 3, 3), (32,), (64, 32, 3, 3), (64,), (10, 64 * 13 * 13), (10,)]


def test_small_cnn_refuses_an_image_that_is_too_small() -> None:
    with pytest.raises(zoo.UsageError, match="at least 8x8, img_size is 7x9"):
        SmallCNN(img_size=(7, 9))


@pytest.mark.parametrize("depth", [8, 20, 110])
def test_resnet_depth_counts_layers_with_weights(depth: int) -> None:
    model = create("resnet20", depth=depth)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_resnet_refuses_other_depths(depth: int) -> None:
    with pytest.raises(zoo.UsageError, match="6n \\+ 2"):
        create("resnet20", depth=depth)


def test_shortcut_takes_every_second_pixel_and_pads_channels_with_zero() -> None:
    block = BasicBlock(16, 32, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)  # only the shortcut remains
    x = torch.rand(2, 16, 6, 6)
    expected = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 16))
    assert torch.equal(block(x), expected)


@each_model
def test_one_step_of_training_lowers_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model = create(name)
    images, target = torch.rand(16, 3, 32, 32), torch.randint(10, (16,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = F.cross_entropy(model(images), target)
    before.backward()
    optimizer.step()
    assert F.cross_entropy(model(images), target) < before
