"""Creating what the plugins offer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo

if TYPE_CHECKING:
    from conftest import Site


def tiny(num_classes: int = 10, in_chans: int = 3, width: int = 4) -> nn.Sequential:
    """The model of the plugin in conftest.py."""
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(in_chans, width, 3))
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flat", nn.Flatten())
    model.add_module("fc", nn.Linear(width, num_classes))
    return model


def same(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in own)


PLUGIN = """
@zoo.hookimpl
def zoo_architectures():
    return [zoo.Architecture("net", "models:tiny", num_classes=10, {fields}
                             weights={{"first": zoo.Weights({weights}),
                                       "second": zoo.Weights(source="/nowhere.pth")}}),
            zoo.Architecture("unknown_classes", "models:tiny")]
"""


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor], str]:
    """A file of weights, its tensors and its hash."""
    state = dict(tiny().state_dict())
    path = tmp_path / "published.pth"
    torch.save(state, path)
    return path, state, hashlib.sha256(path.read_bytes()).hexdigest()


def install(site: Site, weights: str, fields: str = "") -> None:
    site.add("acme", PLUGIN.format(weights=weights, fields=fields))
    site.discover()


Published = tuple[Path, dict[str, torch.Tensor], str]


class TestCreateModel:
    def test_random_weights(self, site: Site) -> None:
        install(site, "source='x.pth'")
        model = zoo.create_model("net", num_classes=7, in_chans=1, width=8)
        assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
        assert model.get_parameter("conv.weight").shape[0] == 8
        assert model.training
        assert zoo.create_model("acme/net")(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
        assert zoo.create_model("unknown_classes")(torch.zeros(1, 3, 8, 8)).shape == (1, 10)

    def test_pretrained(self, site: Site, published: Published) -> None:
        path, state, sha256 = published
        install(site, f"source={str(path)!r}, sha256={sha256.upper()!r}")
        assert same(zoo.create_model("net", pretrained=True), state)
        assert same(zoo.create_model("acme/net.first", pretrained=True), state)
        assert not same(zoo.create_model("acme/net.first"), state)

    def test_safetensors(self, site: Site, tmp_path: Path, published: Published) -> None:
        save_file(published[1], tmp_path / "a.safetensors")
        install(site, f"source={str(tmp_path / 'a.safetensors')!r}")
        assert same(zoo.create_model("net", pretrained=True), published[1])

    def test_weights_with_classes_of_their_own(self, site: Site, tmp_path: Path) -> None:
        state = tiny(num_classes=21).state_dict()
        torch.save(state, tmp_path / "a.pth")
        install(site, f"source={str(tmp_path / 'a.pth')!r}, num_classes=21")
        model = zoo.create_model("net", pretrained=True)
        assert same(model, dict(state))
        assert model.pretrained_cfg["num_classes"] == 21

    def test_other_classes_leave_the_classifier_random(
        self, site: Site, published: Published
    ) -> None:
        path, state, _ = published
        install(site, f"source={str(path)!r}")
        model = zoo.create_model("net", pretrained=True, num_classes=5)
        assert torch.equal(model.state_dict()["conv.weight"], state["conv.weight"])
        assert model.state_dict()["fc.weight"].shape == (5, 4)
        features = zoo.create_model("net", pretrained=True, num_classes=0)
        assert torch.equal(features.state_dict()["conv.bias"], state["conv.bias"])
        assert features(torch.zeros(1, 3, 8, 8)).shape == (1, 4)

    def test_one_channel_sums_the_filters(self, site: Site, published: Published) -> None:
        path, state, _ = published
        install(site, f"source={str(path)!r}")
        model = zoo.create_model("net", pretrained=True, in_chans=1)
        grey = torch.rand(2, 1, 8, 8)
        original = tiny()
        original.load_state_dict(state)
        torch.testing.assert_close(model(grey), original(grey.expand(2, 3, 8, 8)))

    @pytest.mark.parametrize("in_chans", [2, 4, 7])
    def test_more_channels_keep_the_scale(
        self, site: Site, published: Published, in_chans: int
    ) -> None:
        path, state, _ = published
        install(site, f"source={str(path)!r}, input_size=(3, 32, 32)")
        weight = zoo.create_model("net", pretrained=True, in_chans=in_chans).state_dict()[
            "conv.weight"
        ]
        assert weight.shape == (4, in_chans, 3, 3)
        torch.testing.assert_close(
            weight[:, in_chans - 1], state["conv.weight"][:, (in_chans - 1) % 3] * 3 / in_chans
        )

    def test_the_cfg(self, site: Site) -> None:
        install(
            site,
            "source='x.pth', mean=(0., 0., 0.), labels='models:labels', resize_size=40",
            "mean=(.5, .5, .5), std=(.25, .25, .25), input_size=(3, 32, 32), crop_pct=.9, "
            "interpolation='bicubic',",
        )
        assert zoo.create_model("net").pretrained_cfg == {
            "architecture": "net",
            "tag": "first",
            "input_size": (3, 32, 32),
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "mean": (0.0, 0.0, 0.0),
            "std": (0.25, 0.25, 0.25),
            "num_classes": 10,
            "license": None,
            "resize_size": 40,
            "labels": "models:labels",
            "source": "x.pth",
        }
        cfg = zoo.create_model("net.second").pretrained_cfg
        assert (cfg["tag"], cfg["mean"], cfg["labels"]) == ("second", (0.5, 0.5, 0.5), None)
        assert zoo.create_model("unknown_classes").pretrained_cfg["tag"] is None

    def test_what_the_model_says_itself_stays(self, site: Site) -> None:
        (site.path / "own.py").write_text(
            "import torch\ndef make(**kwargs):\n    model = torch.nn.Linear(1, 1)\n"
            "    model.pretrained_cfg = {'crop_mode': 'border', 'mean': (1.0,), 'std': (2.0,),"
            " 'url': 'x'}\n"
            "    return model\n"
        )
        site.add(
            "acme",
            "@zoo.hookimpl\ndef zoo_architectures():\n"
            "    w = zoo.Weights(source='y')\n"
            "    return [zoo.Architecture('net', 'own:make', mean=(.5,)),\n"
            "            zoo.Architecture('ours', 'own:make', weights={'ours': w})]\n",
        )
        site.discover()
        cfg = zoo.create_model("net").pretrained_cfg
        assert (cfg["crop_mode"], cfg["mean"], cfg["std"]) == ("border", (0.5,), (2.0,))
        assert cfg["url"] == "x"
        # Where the model's default weights are says nothing about where ours are.
        cfg = zoo.create_model("ours").pretrained_cfg
        assert (cfg["source"], "url" in cfg) == ("y", False)

    def test_default_kwargs_lie_beneath_the_callers(self, site: Site) -> None:
        install(site, "source='x.pth'", "default_kwargs={'width': 6},")
        assert zoo.create_model("net").get_parameter("conv.weight").shape[0] == 6
        assert zoo.create_model("net", width=2).get_parameter("conv.weight").shape[0] == 2

    def test_a_loader_replaces_source_and_hash(self, site: Site) -> None:
        (site.path / "loader.py").write_text(
            "import torch\ndef load(model, weights, *, num_classes, in_chans):\n"
            "    assert (weights.source, num_classes, in_chans) == ('here', 5, 1)\n"
            "    torch.nn.init.ones_(model.fc.weight)\n"
        )
        install(site, "source='here', sha256='0' * 64, loader='loader:load'")
        model = zoo.create_model("net", pretrained=True, num_classes=5, in_chans=1)
        assert model.state_dict()["fc.weight"].eq(1).all()

    def test_convert(self, site: Site, tmp_path: Path, published: Published) -> None:
        renamed = {f"x.{name}": tensor for name, tensor in published[1].items()}
        torch.save(renamed, tmp_path / "a.pth")
        (site.path / "converter.py").write_text(
            "def convert(state, model):\n    return {k[2:]: v for k, v in state.items()}\n"
        )
        install(site, f"source={str(tmp_path / 'a.pth')!r}, convert='converter:convert'")
        assert same(zoo.create_model("net", pretrained=True), published[1])

    def test_no_weights(self, site: Site) -> None:
        install(site, "source='x.pth'")
        with pytest.raises(zoo.WeightsError, match="acme/unknown_classes has no pretrained weig"):
            zoo.create_model("unknown_classes", pretrained=True)
        with pytest.raises(zoo.UnknownName, match=r"there are acme/net\.first, acme/net\.second"):
            zoo.create_model("net.third", pretrained=True)

    def test_arguments_that_the_factory_does_not_take(self, site: Site) -> None:
        install(site, "source='x.pth'")
        with pytest.raises(zoo.UsageError, match="acme/net does not take 'depth'; its arguments"):
            zoo.create_model("net", depth=3)

    def test_arguments_that_the_factory_finds_out_about_inside(self, site: Site) -> None:
        (site.path / "outer.py").write_text(
            "import models\ndef make(**kwargs):\n    return models.tiny(**kwargs)\n"
        )
        site.add(
            "acme",
            "@zoo.hookimpl\ndef zoo_architectures():\n"
            "    return [zoo.Architecture('net', 'outer:make')]\n",
        )
        site.discover()
        assert zoo.create_model("net", width=2)
        with pytest.raises(zoo.UsageError, match="acme/net does not take 'depth'"):
            zoo.create_model("net", depth=3)
        with pytest.raises(TypeError):  # not the caller's mistake
            zoo.create_model("net", width="wide")

    @pytest.mark.parametrize(
        ("factory", "cause"),
        [
            ("no_such_module_at_all:f", "cannot import 'no_such_module_at_all'"),
            ("models:absent", "'models:absent' does not exist"),
            ("os.path:join", "must return a torch.nn.Module, not str"),
        ],
    )
    def test_factories_that_break_the_contract(self, site: Site, factory: str, cause: str) -> None:
        (site.path / "strange.py").write_text("def make(**kwargs):\n    return 'a model'\n")
        factory = "strange:make" if factory.startswith("os") else factory
        site.add(
            "acme",
            "@zoo.hookimpl\ndef zoo_architectures():\n"
            f"    return [zoo.Architecture('net', {factory!r})]\n",
        )
        site.discover()
        with pytest.raises(zoo.PluginError, match=cause):
            zoo.create_model("net")


class TestCheckpoints:
    @pytest.fixture(autouse=True)
    def plugin(self, site: Site) -> None:
        install(site, "source='x.pth'")

    @pytest.mark.parametrize("container", [None, "state_dict", "model"])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
    def test_they_are_unwrapped(self, tmp_path: Path, container: str | None, prefix: str) -> None:
        state = tiny().state_dict()
        held: Any = {prefix + name: tensor for name, tensor in state.items()}
        torch.save({container: held, "epoch": 3} if container else held, tmp_path / "a.pth")
        model = zoo.create_model("net", checkpoint_path=tmp_path / "a.pth")
        assert same(model, dict(state))

    def test_safetensors(self, tmp_path: Path) -> None:
        state = dict(tiny(num_classes=3).state_dict())
        save_file(state, tmp_path / "a.safetensors")
        path = str(tmp_path / "a.safetensors")
        assert same(zoo.create_model("net", num_classes=3, checkpoint_path=path), state)

    def test_every_tensor_must_fit(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pth"
        torch.save(tiny(num_classes=3).state_dict(), path)
        with pytest.raises(
            zoo.WeightsError,
            match=r"2 of another shape \(fc.weight \(3, 4\) for \(10, 4\), .*; try num_classes=3",
        ):
            zoo.create_model("net", checkpoint_path=path)
        state = tiny().state_dict()
        del state["conv.bias"]
        torch.save({**state, "extra": torch.ones(1)}, path)
        with pytest.raises(
            zoo.WeightsError,
            match=r"1 missing \(conv.bias\); 1 unknown to the model \(extra\)$",
        ):
            zoo.create_model("net", checkpoint_path=path)

    def test_a_mistake_shows_before_anything_else_is_read(self, tmp_path: Path) -> None:
        with pytest.raises(zoo.UsageError, match="not both"):
            zoo.create_model("net", pretrained=True, checkpoint_path=tmp_path / "a.pth")
        with pytest.raises(zoo.WeightsError, match=r"cannot read .*a\.pth: No such file"):
            zoo.create_model("net", checkpoint_path=tmp_path / "a.pth")


FACTORIES = """
import torch
def noise(scale=1.0, *, generator=None):
    return lambda images: images + scale * torch.rand(images.shape, generator=generator)
def plain():
    return lambda images: images
def mse():
    return torch.nn.MSELoss()
class digits(torch.utils.data.Dataset):
    def __init__(self, *, split, transform=None, size=4):
        self.split, self.transform, self.size = split, transform, size
"""

THINGS = """
@zoo.hookimpl
def zoo_augmentations():
    return [zoo.Augmentation("noise", "factories:noise"),
            zoo.Augmentation("plain", "factories:plain")]
@zoo.hookimpl
def zoo_losses():
    return [zoo.Loss("mse", "factories:mse", target="soft")]
@zoo.hookimpl
def zoo_datasets():
    return [zoo.Dataset("digits", "factories:digits", splits=("fit", "test"))]
"""


class TestOtherKinds:
    @pytest.fixture(autouse=True)
    def plugin(self, site: Site) -> None:
        (site.path / "factories.py").write_text(FACTORIES)
        site.add("acme", THINGS)
        site.discover()

    def test_lists(self) -> None:
        assert zoo.list_augmentations() == ["acme/noise", "acme/plain"]
        assert zoo.list_augmentations("n*", plugin="acme") == ["acme/noise"]
        assert zoo.list_losses(exclude_filters="mse") == []
        assert zoo.list_losses() == ["acme/mse"]
        assert zoo.list_datasets("acme/*") == ["acme/digits"]

    def test_a_generator_is_given_to_factories_that_declare_it(self) -> None:
        images = torch.zeros(2, 3, 4, 4)
        outputs = [
            zoo.create_augmentation("noise", generator=torch.Generator().manual_seed(1))(images)
            for _ in range(2)
        ]
        assert torch.equal(*outputs)
        assert outputs[0].any()
        plain = zoo.create_augmentation("plain", generator=torch.Generator())
        assert plain(images) is images

    def test_arguments(self) -> None:
        images = torch.zeros(1)
        assert not zoo.create_augmentation("noise", scale=0.0)(images).any()
        with pytest.raises(zoo.UsageError, match=r"acme/noise does not take 'size'; .*: scale"):
            zoo.create_augmentation("noise", size=3)
        with pytest.raises(zoo.UsageError, match=r"acme/mse does not take 'a'; .*: none"):
            zoo.create_loss("mse", a=3)

    def test_datasets(self) -> None:
        made: Any = zoo.create_dataset("digits", transform=len, size=9)
        assert (made.split, made.transform, made.size) == ("fit", len, 9)
        other: Any = zoo.create_dataset("digits", split="test")
        assert other.split == "test"
        with pytest.raises(zoo.UsageError, match="no split 'train'; there are fit, test"):
            zoo.create_dataset("digits", split="train")

    def test_unknown(self) -> None:
        with pytest.raises(zoo.UnknownName, match=r"no loss 'mae'; did you mean acme/mse\?"):
            zoo.create_loss("mae")
        with pytest.raises(zoo.UnknownName, match="no data set"):
            zoo.create_dataset("acme/faces")
