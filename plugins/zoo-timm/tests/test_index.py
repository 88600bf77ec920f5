"""The index: complete, true where it is compared with built models, and light to declare."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import timm
import torch
from zoo_timm.index import build, location, read_table

import zoo

# Small, and each of another kind: residual, inverted residual, transformer, hybrid, MLP.
SAMPLE = (
    "resnet18",
    "mobilenetv3_small_050",
    "vit_tiny_patch16_224",
    "levit_128s",
    "test_mambaout",
    "pvt_v2_b0",
)


@pytest.fixture(scope="module")
def index() -> dict[str, zoo.Architecture]:
    return {spec.name: spec for spec in build()}


def test_the_first_index_is_built_in_time() -> None:
    """The limit is 15 s, the import of timm included; a busy machine is given twice that."""
    begin = time.perf_counter()
    code = "from zoo_timm.index import build; print(len(list(build())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1350
    assert time.perf_counter() - begin < 30


def test_every_model_and_every_tag_is_there(index) -> None:
    assert sorted(index) == sorted(timm.list_models())
    assert len(index) > 1350
    tagged = {f"{name}.{tag}" for name, spec in index.items() for tag in spec.weights}
    assert tagged == set(timm.list_pretrained())


def test_the_default_tag_is_timm_s(index) -> None:
    for name, spec in index.items():
        if timm.models.is_model_pretrained(name):
            tag = timm.models.get_pretrained_cfg(name).tag
            assert next(iter(spec.weights)) == tag, name


def test_sources_tell_the_tags_of_a_model_apart(index) -> None:
    """The loader finds the tag by its source."""
    for spec in index.values():
        sources = [weights.source for weights in spec.weights.values()]
        assert len(set(sources)) == len(sources), spec.name
        assert all(source.startswith(("hf-hub:", "https://")) for source in sources)


def test_preprocessing_of_every_tag_is_timm_s(index) -> None:
    for tagged in timm.list_pretrained():
        name, _, tag = tagged.partition(".")
        spec, config = index[name], timm.models.get_pretrained_cfg(tagged)
        weights = spec.weights[tag]
        for field in ("input_size", "mean", "std", "interpolation", "crop_pct"):
            mine = getattr(weights, field)
            mine = getattr(spec, field) if mine is None else mine
            theirs = getattr(config, field)
            assert mine == (tuple(theirs) if isinstance(theirs, list) else theirs), (tagged, field)
        assert weights.num_classes == config.num_classes
        assert weights.source == location(config)


def test_the_registry_takes_all_of_it(index) -> None:
    assert set(zoo.list_models(plugin="timm")) == {f"timm/{name}" for name in index}
    assert zoo.is_model("timm/resnet18.a1_in1k")
    assert not zoo.is_model("timm/resnet18.no_such_tag")


@pytest.mark.parametrize("name", SAMPLE)
def test_counted_params_are_true(index, name) -> None:
    model = timm.create_model(name)
    assert index[name].params == sum(p.numel() for p in model.parameters())


# Published multiply-accumulates (torchvision's models, and the papers of the others), in 1e9.
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet18", 1.814),
        ("resnet50", 4.089),
        ("vgg16", 15.47),
        ("mobilenetv2_100", 0.301),
        ("vit_base_patch16_224", 17.56),
        ("swin_tiny_patch4_window7_224", 4.49),
    ],
)
def test_counted_macs_are_those_published(index, name, macs) -> None:
    assert index[name].macs == pytest.approx(macs * 1e9, rel=0.005)


def test_the_table_covers_nearly_all() -> None:
    table = read_table()
    rows = [table.get(name) for name in timm.list_models()]
    assert sum(row is not None and row.params is not None for row in rows) > 0.98 * len(rows)
    assert sum(row is not None and row.macs is not None for row in rows) > 0.95 * len(rows)


def test_licences_have_spdx_names_where_there_are_any(index) -> None:
    assert index["resnet18"].weights["a1_in1k"].license == "Apache-2.0"
    assert index["resnet18"].weights["fb_ssl_yfcc100m_ft_in1k"].license == "CC-BY-NC-4.0"


@pytest.mark.parametrize(
    ("function", "count", "first"),
    [
        ("imagenet_1k", 1000, "tench, Tinca tinca"),
        ("imagenet_12k", 11821, None),
        ("imagenet_22k", 21841, None),
        ("imagenet_22k_ms", 21842, "tench, Tinca tinca"),
        ("imagenet_21k_goog", 21843, None),
        ("imagenet_21k_miil", 11221, None),
    ],
)
def test_labels_have_one_name_for_each_class(index, function, count, first) -> None:
    from zoo_timm import labels

    names = getattr(labels, function)()
    assert len(names) == count
    assert all(isinstance(name, str) and name for name in names)
    assert first is None or names[0] == first
    target = f"zoo_timm.labels:{function}"
    used = {
        weights.num_classes
        for spec in index.values()
        for weights in spec.weights.values()
        if weights.labels == target
    }
    assert used == {count}


def test_declaring_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, zoo_timm as z;"
        "z.zoo_architectures(), z.zoo_losses(), z.zoo_augmentations();"
        "print({'torch', 'torchvision', 'timm', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_input_size_is_one_that_the_model_takes(index) -> None:
    spec = index["vit_tiny_patch16_224"]
    model = timm.create_model(spec.name).eval()
    with torch.no_grad():
        assert model(torch.rand(1, *spec.input_size)).shape == (1, spec.num_classes)
