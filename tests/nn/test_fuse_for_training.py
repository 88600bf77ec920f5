"""Fused models against the plain ones that they are views of."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from fused_models import Net, X, agree, close, count_ops, images, simple
from torch import Tensor, nn

import zoo
from zoo.nn import FusedConv2d, fuse_for_training


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# Each with the size of its images and how many chains there are.
NETWORKS = {
    "cifar/small_cnn": (32, 2),
    "cifar/resnet20": (16, 19),
    "resnet18": (32, 20),
    "mobilenetv3_small_100": (32, 52),
    "efficientnet_b0": (32, 65),
    "regnety_002": (32, 70),
    "densenet121": (32, 59),
    "convnext_atto": (32, 0),
    "vgg11_bn": (32, 8),
}


def create(name: str) -> nn.Module:
    if name.startswith("cifar/"):
        return zoo.create_model(name)
    if name == "vgg11_bn":  # its own head has 120 million weights
        return nn.Sequential(timm.create_model(name, features_only=False).features, nn.Flatten())
    return timm.create_model(name, num_classes=7)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    size, chains = NETWORKS[name]
    model = create(name).train()
    x = images(4, 3, size, size)
    before = dict(model.state_dict(keep_vars=True))
    # The last maps have one pixel: a BatchNorm over four values multiplies what rounding leaves.
    fused = agree(model.double(), x, rtol=1e-7, chains=chains)
    assert fused._zoo_fusion.forward is None or fused._zoo_fusion.holds(fused.train())
    assert list(fused.state_dict()) == list(before)


@pytest.mark.parametrize("name", ["cifar/small_cnn", "cifar/resnet20", "efficientnet_b0"])
@pytest.mark.parametrize("last", [False, True])
def test_networks_in_float32(name: str, last: bool) -> None:
    model = create(name).train()
    x = torch.randn(8, 3, 32, 32)
    if last:
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    agree(model, x, rtol=1e-3, chains=None, flips=0.01)


@pytest.mark.parametrize("channels", [1, 3])
def test_in_the_default_layout_the_modules_run(channels: int, monkeypatch) -> None:
    """There the ops have no kernels for the gradients, and would take longer."""
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 6), nn.ReLU())
    plain, x = net.double(), torch.randn(2, channels, 8, 8, dtype=torch.float64)
    fused, seen = fuse_for_training(plain), count_ops(monkeypatch)
    assert torch.equal(fused(x), plain(x))
    assert seen == []
    # Of one channel, or of one pixel, both layouts are the same: then the weight's tells.
    fused.to(memory_format=torch.channels_last)
    close(fused(x), plain(x), 1e-9)
    assert len(seen) == 2
    fused.to(memory_format=torch.contiguous_format)
    fused(x.to(memory_format=torch.channels_last))
    assert len(seen) == 4


def test_two_inputs() -> None:
    class Two(Net):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.relu(self.bn(self.conv(x)) + y)

    model = Two(lambda *_: None)
    fused = fuse_for_training(copy.deepcopy(model))
    y = torch.randn(2, 6, 8, 8, dtype=torch.float64)
    assert fused.fused_chains == ["conv + batch_norm + residual + relu"]
    close(fused(X, y), model(X, y), 1e-9)


def test_one_value_per_channel_is_refused_as_by_torch() -> None:
    for model in (simple(), fuse_for_training(simple())):
        with pytest.raises(ValueError, match=r"more than (1|one) value per channel"):
            model(images(1, 3, 1, 1))


@pytest.mark.parametrize("fuse", [fuse_for_training, FusedConv2d])
def test_no_images_at_all(fuse: type[FusedConv2d] | Callable[[nn.Module], nn.Module]) -> None:
    """As in PyTorch they make an empty map, count as a batch and change no statistics."""
    model = simple()
    ours = FusedConv2d(model.conv, model.bn, "relu") if fuse is FusedConv2d else fuse(model)
    for mode in (True, False):
        for each in (ours, model):
            model.zero_grad()
            x = X[:0].clone().requires_grad_()
            output = each.train(mode)(x)
            output.sum().backward()
            assert output.shape == (0, 6, 8, 8)
            assert x.grad is not None
            assert not any(p.grad.any() for p in each.parameters() if p.grad is not None)
    assert model.bn.num_batches_tracked == 2
    assert torch.equal(model.bn.running_mean, torch.zeros_like(model.bn.running_mean))


def test_stochastic_depth_and_dropout_draw_as_before() -> None:
    model = timm.create_model("efficientnet_b0", drop_rate=0.3, drop_path_rate=0.5, num_classes=5)
    agree(model.double().train(), images(4, 3, 32, 32), chains=None)


def test_tensors_of_the_forwards_own_parameters() -> None:
    """A graph refers to parameters and buffers, not to what they were."""

    class Scaled(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.bn(self.conv(x))) * self.gamma.reshape(1, -1, 1, 1) + self.shift

    model = Scaled(lambda *_: None)
    model.gamma = nn.Parameter(torch.ones(6, dtype=torch.float64))
    model.register_buffer("shift", torch.ones(1, dtype=torch.float64))
    fused = fuse_for_training(model)
    before = fused(X)
    with torch.no_grad():
        fused.gamma.mul_(2)
        fused.shift.add_(1)
    close(fused(X), (before - 1) * 2 + 2, 1e-9)
    fused(X).sum().backward()
    fused(X).sum().backward()
    assert fused.gamma.grad is not None


def test_modes_are_left_as_they_were() -> None:
    model = zoo.create_model("cifar/resnet20").eval()
    fused = fuse_for_training(model)
    assert not any(module.training for module in fused.modules())
    fused.train()
    assert all(module.training for module in fused.modules() if module is not model)
