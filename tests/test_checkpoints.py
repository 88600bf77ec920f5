"""A checkpoint alone rebuilds its model; what is damaged, foreign or does not fit says so."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.checkpoints import (
    KIND,
    Checkpoint,
    CheckpointError,
    is_checkpoint,
    load_model,
    read_checkpoint,
    save_checkpoint,
)
from zoo.evaluation.predict import class_names

INFO = Checkpoint(
    architecture="cifar/small_cnn",
    model_kwargs={"num_classes": 3, "in_chans": 1, "img_size": (8, 10)},
    classes=["a", "b", "ä c"],
    pretrained_cfg={
        "input_size": (1, 8, 10), "mean": (0.5,), "std": (0.25,),
        "interpolation": "bicubic", "crop_pct": 0.9,
    },
    dataset="zoo/digits",
    epoch=7,
    metrics={"eval_top1": 97.5},
    versions={"torch": torch.__version__},
)  # fmt: skip


def make() -> nn.Module:
    return zoo.create_model("cifar/small_cnn", num_classes=3, in_chans=1, img_size=(8, 10))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


@pytest.fixture
def file(model: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, model.state_dict(), INFO)
    return path


def test_round_trip(file: Path, model: nn.Module) -> None:
    assert is_checkpoint(file)
    read = read_checkpoint(file)
    as_written = json.loads(json.dumps(dataclasses.asdict(INFO)))  # tuples are lists in JSON
    assert dataclasses.asdict(read) == as_written
    loaded = load_model(str(file))
    assert not loaded.training
    x = torch.randn(2, 1, 8, 10)
    assert torch.equal(loaded(x), model(x))
    config: Any = loaded.pretrained_cfg
    assert {**config, **INFO.pretrained_cfg} == config
    assert config["labels"] == class_names(loaded) == INFO.classes
    assert loaded.num_classes == config["num_classes"] == 3
    assert "source" not in config
    assert [child.name for child in file.parent.iterdir()] == [file.name]


def test_weights_in_other_layouts_and_on_shared_memory(model: nn.Module, tmp_path: Path) -> None:
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    places = flat.split([p.numel() for p in model.parameters()])
    state = {
        name: place.view_as(p) if p.ndim < 4 else p
        for place, (name, p) in zip(places, model.named_parameters(), strict=True)
    }
    save_checkpoint(tmp_path / "file", state, INFO)
    loaded = load_model(tmp_path / "file").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_the_description_is_read_without_torch(file: Path) -> None:
    run = (
        "import sys; from zoo.checkpoints import read_checkpoint; "
        f"print(read_checkpoint({str(file)!r}).architecture, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=120)
    assert done.stdout == "cifar/small_cnn False\n", done.stderr


def test_the_name_may_be_given_if_it_is_the_same(file: Path) -> None:
    options = {"num_classes": 3, "in_chans": 1, "img_size": (8, 10)}
    zoo.create_model("small_cnn", checkpoint_path=file, **options)  # type: ignore[arg-type]
    with pytest.raises(
        CheckpointError,
        match=r"is a checkpoint of cifar/small_cnn, not of cifar/resnet20: leave the model out, or",
    ):
        zoo.create_model("resnet20", num_classes=3, in_chans=1, checkpoint_path=file)


def test_overwriting(file: Path, model: nn.Module) -> None:
    with pytest.raises(zoo.UsageError, match="exists"):
        save_checkpoint(file, model.state_dict(), INFO, overwrite=False)
    save_checkpoint(file, model.state_dict(), dataclasses.replace(INFO, epoch=8))
    assert read_checkpoint(file).epoch == 8


def test_a_full_disk_leaves_the_old_file(file: Path, model: nn.Module) -> None:
    content = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # the write fails by EFBIG
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*best\.safetensors: "):
            save_checkpoint(file, model.state_dict(), INFO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert file.read_bytes() == content
    assert [child.name for child in file.parent.iterdir()] == [file.name]


def test_a_folder_that_is_not_there(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*: No such file or directory"):
        save_checkpoint(tmp_path / "none" / "file", model.state_dict(), INFO)


@pytest.mark.parametrize(
    "change",
    [
        {"model_kwargs": {"layer": nn.ReLU}},
        {"model_kwargs": {"pretrained": True}},
        {"metrics": {"loss": float("nan")}},
        {"classes": [1, 2, 3]},
        {"architecture": None},
    ],
)
def test_what_is_not_plain_cannot_be_saved(
    change: dict[str, Any], model: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="this model cannot be saved"):
        save_checkpoint(tmp_path / "file", model.state_dict(), dataclasses.replace(INFO, **change))
    assert not list(tmp_path.iterdir())


def refused(path: Path, match: str, error: type[Exception] = CheckpointError) -> None:
    with pytest.raises(error, match=match) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_files_of_another_kind(tmp_path: Path) -> None:
    refused(tmp_path / "none", "there is no file")
    for content in (b"", b"\0" * 100, os.urandom(1000)):
        (tmp_path / "file").write_bytes(content)
        refused(tmp_path / "file", "is damaged")
        assert not is_checkpoint(tmp_path / "file")
    save_file({"a": torch.ones(2)}, tmp_path / "weights")
    refused(tmp_path / "weights", r"does not say which model it is of: name it")
    assert not is_checkpoint(tmp_path / "weights")
    assert not is_checkpoint(tmp_path)


def test_truncated(file: Path) -> None:
    content = file.read_bytes()
    for length in (4, 8, 50, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refused(file, "is damaged")
        with pytest.raises(CheckpointError, match="is damaged"):
            read_checkpoint(file)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_byte_changed(file: Path, model: nn.Module, data: st.DataObject) -> None:
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    place = data.draw(st.one_of(st.integers(0, header), st.integers(0, len(content) - 1)))
    damaged = file.with_name("damaged")
    byte = data.draw(st.integers(0, 255))
    damaged.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
    with contextlib.suppress(CheckpointError):
        loaded = load_model(damaged).state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the description in a file, with a hash that fits."""
    with safe_open(path, "pt") as file:
        document = json.loads(file.metadata()[KIND.key])
        tensors = {name: file.get_tensor(name).clone() for name in list(file.keys())}
    change(document)
    text = json.dumps(document)
    digest = hashlib.sha256(text.encode()).hexdigest()
    save_file(tensors, path, {KIND.key: text, "sha256": digest})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.update(format=2, zoo="99.0"), "written by zoo 99.0 in format 2, .* install"),
        (lambda d: d.pop("checkpoint"), "is damaged"),
        (lambda d: d["checkpoint"].update(classes="abc"), "is damaged"),
        (lambda d: d["checkpoint"].update(unheard_of=1), "is damaged"),
        (lambda d: d["checkpoint"]["model_kwargs"].update(pretrained=True), "is damaged"),
        (
            lambda d: d["checkpoint"].update(architecture="acme/net"),
            "of acme/net, .* cannot be built here",
        ),
        (lambda d: d["checkpoint"]["model_kwargs"].update(width=3), "does not take 'width'"),
    ],
)
def test_forged_descriptions(change: Callable[[Any], Any], match: str, file: Path) -> None:
    forge(file, change)
    refused(file, match)


def test_tensors_that_are_not_the_models(model: nn.Module, tmp_path: Path) -> None:
    path, state = tmp_path / "file", model.state_dict()
    save_checkpoint(path, {k: v for k, v in state.items() if k != "conv2.bias"}, INFO)
    where = rf"{path} \(cifar/small_cnn\) do not fit the model: "
    refused(path, rf"{where}1 missing \(conv2\.bias\)", zoo.WeightsError)
    save_checkpoint(path, {**state, "fc2.bias": torch.ones(2)}, INFO)
    refused(path, rf"{where}1 unknown to the model \(fc2\.bias\)", zoo.WeightsError)
    save_checkpoint(path, state, dataclasses.replace(INFO, model_kwargs={"num_classes": 3}))
    refused(path, where + r"2 of another shape \(conv1\.weight", zoo.WeightsError)
