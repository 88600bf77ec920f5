"""Whole runs: what they leave behind, and that they go on as if nothing had happened."""

from __future__ import annotations

import csv
import json
import re
import resource
import signal
from pathlib import Path

import pytest
import torch
from runs import weights

from zoo.checkpoints import load_model, read_checkpoint
from zoo.data.datasets import open_dataset
from zoo.errors import UsageError, ZooError
from zoo.training.about import package_versions
from zoo.training.loop import Diverged
from zoo.training.recipes import resolve
from zoo.training.session import resume, train


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open() as file:
        return list(csv.DictReader(file))


def test_run_folder(config, tmp_path):
    outcome = train(config(epochs=3), tmp_path / "a")
    folder = tmp_path / "a"
    assert {path.name.split(".out.")[0] for path in folder.iterdir()} == {
        "args.yaml", "run.json", "summary.csv", "events", "last.safetensors", "best.safetensors",
        "state.safetensors", "curves.png",
    }  # fmt: skip
    assert (outcome.folder, outcome.signal, outcome.trained) == (folder, 0, True)
    written = rows(folder)
    assert list(written[0]) == ["epoch", "train_loss", "eval_loss", "eval_top1", "eval_top5", "lr"]
    assert [float(row["epoch"]) for row in written] == [0, 1, 2]
    assert [float(row["eval_top1"]) for row in written] == [
        row["eval_top1"] for row in outcome.history
    ]
    about = json.loads((folder / "run.json").read_text())
    assert about["seed"] == 0
    assert about["plugins"].keys() == {"zoo", "cifar", "oddity"}
    assert torch.__version__.startswith(about["versions"]["torch"])
    assert about["hardware"]["processes"] == 1
    assert len(about["data"]["fingerprints"]["train"]) == 64
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob(".*"))


def test_saved_weights_have_the_accuracy_of_the_summary(config, tmp_path):
    outcome = train(config(epochs=3), tmp_path / "a")
    model = load_model(tmp_path / "a" / "last.safetensors")
    test = open_dataset("digits", split="test")
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        hits = model((test.images - mean) / std).argmax(1) == test.targets
    assert 100 * hits.float().mean().item() == pytest.approx(outcome.history[-1]["eval_top1"])
    info = read_checkpoint(tmp_path / "a" / "last.safetensors")
    assert (info.architecture, info.epoch) == ("cifar/small_cnn", 3)
    assert info.classes == list("0123456789")
    assert info.metrics["eval_top1"] == outcome.history[-1]["eval_top1"]
    best = read_checkpoint(tmp_path / "a" / "best.safetensors")
    assert best.metrics["eval_top1"] == max(row["eval_top1"] for row in outcome.history)


def test_same_seed_same_weights_whatever_the_workers(config, tmp_path):
    train(config(), tmp_path / "a")
    train(config(workers=2), tmp_path / "b")
    train(config(seed=1), tmp_path / "c")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


VARIANTS = {
    "plain": {},
    "everything": {
        "model": "oddity/restless",
        "model_ema": True,
        "model_ema_warmup": True,
        "clip_grad": 1.0,
        "grad_accum_steps": 2,
        "batch_size": 96,
        "layer_decay": 0.7,
        "mixup": 0.4,
        "smoothing": 0.1,
        "reprob": 0.2,
        "warmup_epochs": 1,
    },
    "workers": {"workers": 2},
    "sgd": {
        "model": "oddity/restless",
        "opt": "sgd",
        "lr": 0.1,
        "sched": "step",
        "decay_epochs": 1,
    },
    "half": {"amp": True, "channels_last": False, "model": "oddity/tail"},
    "lookahead": {"opt": "lookahead_adam"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_interrupted_and_resumed_is_the_same_bit_for_bit(config, tmp_path, name):
    variant = VARIANTS[name]
    soft = "mixup" in variant
    loss = "oddity/soft_interrupting" if soft else "oddity/interrupting"
    # The first call of the loss is a trial.
    train(config(**variant, loss={loss: {"after": 1000}}), tmp_path / "whole")
    broken = config(**variant, loss={loss: {"after": 4}})
    outcome = train(broken, tmp_path / "broken")
    sessions = 1
    while outcome.signal:
        assert outcome.signal == signal.SIGINT
        outcome = resume(tmp_path / "broken", {})
        sessions += 1
    assert sessions > 1
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    assert weights(tmp_path / "broken", "best") == weights(tmp_path / "whole", "best")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    resumed = json.loads((tmp_path / "broken" / "run.json").read_text())["resumed"]
    assert len(resumed) == sessions - 1


def test_finished_run_says_so(config, tmp_path):
    train(config(), tmp_path / "a")
    before = weights(tmp_path / "a")
    outcome = resume(tmp_path / "a", {})
    assert not outcome.trained
    assert len(outcome.history) == 2
    assert weights(tmp_path / "a") == before


def test_resuming_before_the_first_state_starts_over(config, tmp_path):
    train(config(), tmp_path / "whole")
    stopped = train(config(loss={"oddity/interrupting": {"after": 2}}), tmp_path / "a")
    assert stopped.signal
    (tmp_path / "a" / "state.safetensors").unlink()
    outcome = resume(tmp_path / "a", {})
    while outcome.signal:
        outcome = resume(tmp_path / "a", {})
    assert weights(tmp_path / "a") == weights(tmp_path / "whole")


def test_resume_says_what_changed(config, tmp_path):
    train(config(epochs=1), tmp_path / "a")
    with pytest.raises(UsageError, match=r"lr was 0.01, not 0.5; seed was 0, not 3"):
        resume(tmp_path / "a", {"lr": 0.5, "seed": 3})
    assert not resume(tmp_path / "a", {"workers": 2, "lr": 0.01}).trained


def test_resume_refuses_other_data(config, tmp_path):
    data = tmp_path / "data"
    _pictures(data)
    settings = {"dataset": str(data), "model": "oddity/restless", "batch_size": 4, "epochs": 9}
    stopped = train(config(**settings, loss={"oddity/interrupting": {"after": 4}}), tmp_path / "a")
    assert stopped.signal
    (data / "train" / "red" / "0.png").unlink()
    with pytest.raises(UsageError, match=r"data has changed since .*a was begun"):
        resume(tmp_path / "a", {})


def test_resume_refuses_another_number_of_processes(config, tmp_path):
    train(config(loss={"oddity/interrupting": {"after": 3}}), tmp_path / "a")
    path = tmp_path / "a" / "run.json"
    about = json.loads(path.read_text())
    about["hardware"]["processes"] = 2
    path.write_text(json.dumps(about))
    with pytest.raises(UsageError, match="begun by 2 processes, not 1"):
        resume(tmp_path / "a", {})


def test_pixels_that_are_no_numbers_are_named_as_the_cause(config, tmp_path):
    with pytest.raises(Diverged, match=r"the loss is nan .* its images hold values that are not"):
        train(config(dataset="oddity/holed", recipe=None), tmp_path / "a")


def test_layer_decay_that_would_do_nothing_is_refused(config, tmp_path):
    with pytest.raises(UsageError, match="tail does not say which layer a weight belongs to"):
        train(config(model="oddity/tail", layer_decay=0.5), tmp_path / "a")
    folders = [tmp_path / name for name in ("even", "decayed")]
    for folder, decay in zip(folders, (None, 0.5), strict=True):
        train(config(epochs=1, layer_decay=decay), folder)
    even, decayed = map(weights, folders)
    assert even != decayed


def test_loss_that_is_not_a_number_stops_and_keeps_the_last_good_state(config, tmp_path):
    settings = {"loss": {"oddity/exploding": {"after": 9}}, "checkpoint_every": 2, "lr": 0.01}
    with pytest.raises(Diverged) as error:
        train(config(**settings, epochs=3, sched="constant"), tmp_path / "a")
    text = str(error.value)
    assert "the loss is nan in epoch 2, step 8, at learning rate 0.01" in text
    assert "keeps the state of step 6" in text
    assert "\n" not in text
    from zoo.training.state import read_state

    parts, place = read_state(tmp_path / "a" / "state.safetensors")
    assert place.updates == 6
    assert all(bool(value.isfinite().all()) for value in parts["model"].values())
    assert all(bool(value.isfinite().all()) for value in load_model(
        tmp_path / "a" / "last.safetensors").state_dict().values())  # fmt: skip


def test_divergence_before_anything_was_saved(config, tmp_path):
    with pytest.raises(Diverged, match="nothing was saved yet"):
        train(config(loss={"oddity/exploding": {"after": 2}}), tmp_path / "a")


def test_full_disk_keeps_what_was_saved(config, tmp_path):
    whole = config(epochs=3, loss={"oddity/interrupting": {"after": 1000}})
    train(whole, tmp_path / "whole")
    outcome = train(config(epochs=3, loss={"oddity/interrupting": {"after": 8}}), tmp_path / "a")
    assert outcome.signal
    before = {path: path.read_bytes() for path in (tmp_path / "a").glob("*.safetensors")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(ZooError) as error:
            resume(tmp_path / "a", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.search(r"cannot write .*keeps the state of step 7: make room", str(error.value))
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in (tmp_path / "a").glob("*.safetensors")} == before
    while outcome.signal:
        outcome = resume(tmp_path / "a", {})
    assert weights(tmp_path / "a") == weights(tmp_path / "whole")


def test_other_versions_are_told(config, tmp_path, capfd):
    train(config(loss={"oddity/interrupting": {"after": 3}}), tmp_path / "a")
    path = tmp_path / "a" / "run.json"
    about = json.loads(path.read_text())
    about["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(about))
    resume(tmp_path / "a", {})
    assert f"torch was 1.0, is {package_versions()['torch']}" in capfd.readouterr().err


def test_paths_mean_the_same_elsewhere(tmp_path, monkeypatch):
    _pictures(tmp_path / "data")
    given = {"dataset": "data", "model": "oddity/restless", "batch_size": 4, "epochs": 2}
    config = resolve({**given, "loss": {"oddity/interrupting": {"after": 3}}})
    assert config.dataset == str(tmp_path / "data")
    assert train(config, tmp_path / "a").signal
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume(tmp_path / "a", {"dataset": "../data"}).trained


def test_events_can_be_read_and_count_once(config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = train(config(epochs=3, loss={"oddity/interrupting": {"after": 8}}), tmp_path / "a")
    while outcome.signal:
        outcome = resume(tmp_path / "a", {})
    events = EventAccumulator(str(tmp_path / "a"))
    events.Reload()
    assert [event.step for event in events.Scalars("epoch/eval_top1")] == [5, 10, 15]
    assert [event.value for event in events.Scalars("epoch/eval_top1")] == pytest.approx(
        [row["eval_top1"] for row in outcome.history]
    )


def test_more_workers_than_images(config, tmp_path):
    data = tmp_path / "data"
    _pictures(data)
    settings = {"dataset": str(data), "model": "oddity/restless", "batch_size": 64, "workers": 9}
    assert len(train(config(**settings), tmp_path / "a").history) == 2


def test_initial_checkpoint_with_another_head(config, tmp_path):
    train(config(epochs=1), tmp_path / "a")
    data = tmp_path / "data"
    _pictures(data)
    start = str(tmp_path / "a" / "last.safetensors")
    settings = {"dataset": str(data), "initial_checkpoint": start, "lr": 0.0, "batch_size": 4}
    train(config(**settings, epochs=1), tmp_path / "b")
    before, after = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert {name for name in before if before[name] != after[name]} == {"fc.weight", "fc.bias"}
    model = load_model(tmp_path / "b" / "last.safetensors")
    assert model.num_classes == 2
    assert model.pretrained_cfg["input_size"] == (1, 8, 8)


def _pictures(folder: Path, count: int = 8) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for colour in ("red", "blue"):
            (folder / split / colour).mkdir(parents=True)
            for number in range(count):
                picture = Image.new("RGB", (8, 8), colour)
                picture.putpixel((number, 3), (255, 255, 255))
                picture.save(folder / split / colour / f"{number}.png")
