"""Training of the classifier alone."""

from __future__ import annotations

import pytest
import torch
from runs import weights
from safetensors.torch import load_file

from zoo.errors import UsageError
from zoo.training.session import resume, train


@pytest.fixture
def frozen(config):
    def make(**settings):
        return config(**{"model": "oddity/restless", "freeze": "backbone", **settings})

    return make


def changed(folder, before) -> set[str]:
    after = weights(folder)
    return {name for name in after if after[name] != before[name]}


@pytest.mark.parametrize("augmented", [False, True])
def test_only_the_head_changes(frozen, tmp_path, augmented):
    settings = {"no_aug": False, "crop_padding": 1} if augmented else {}
    train(frozen(epochs=1, lr=0.0, **settings), tmp_path / "start")
    train(frozen(**settings), tmp_path / "a")
    assert changed(tmp_path / "a", weights(tmp_path / "start")) == {"fc.weight", "fc.bias"}
    files = list((tmp_path / "cache" / "features").glob("*"))
    assert len(files) == (0 if augmented else 2)


def test_features_are_computed_once(frozen, tmp_path, capfd):
    train(frozen(), tmp_path / "a")
    assert capfd.readouterr().err.count("computing the features of") == 2
    train(frozen(lr=0.02), tmp_path / "b")
    assert "computing" not in capfd.readouterr().err
    train(frozen(seed=1), tmp_path / "c")  # other random weights, other features
    assert capfd.readouterr().err.count("computing the features of") == 2


def test_damaged_features_are_computed_again(frozen, tmp_path):
    train(frozen(), tmp_path / "a")
    for path in (tmp_path / "cache" / "features").iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    train(frozen(), tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_cached_features_train_as_the_network_itself(frozen, tmp_path):
    cached = train(frozen(epochs=3, smoothing=0.1), tmp_path / "a").history
    # Without shift and flip the augmented way sees the same images.
    plain = {"no_aug": False, "crop_padding": 0, "smoothing": 0.1, "optimize": False}
    run = train(frozen(epochs=3, **plain), tmp_path / "b").history
    for mine, other in zip(cached, run, strict=True):
        assert mine == pytest.approx(other, rel=1e-3)
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in "ab")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("augmented", [False, True])
def test_resumes_bit_for_bit(frozen, tmp_path, augmented):
    settings = {"no_aug": not augmented, "model_ema": True}
    train(frozen(**settings), tmp_path / "whole")
    outcome = train(frozen(**settings, loss={"oddity/interrupting": {"after": 4}}), tmp_path / "a")
    while outcome.signal:
        outcome = resume(tmp_path / "a", {})
    assert weights(tmp_path / "a") == weights(tmp_path / "whole")


def test_average_of_the_head_is_saved_with_the_rest(frozen, tmp_path):
    train(frozen(epochs=1, lr=0.0), tmp_path / "start")
    outcome = train(frozen(model_ema=True, model_ema_decay=0.5), tmp_path / "a")
    assert changed(tmp_path / "a", weights(tmp_path / "start")) == {"fc.weight", "fc.bias"}
    from zoo.checkpoints import load_model
    from zoo.data.datasets import open_dataset

    model = load_model(tmp_path / "a" / "last.safetensors")
    test = open_dataset("digits", split="test")
    mean, std = model.pretrained_cfg["mean"][0], model.pretrained_cfg["std"][0]
    with torch.no_grad():
        hits = model((test.images - mean) / std).argmax(1) == test.targets
    assert 100 * hits.float().mean().item() == pytest.approx(
        outcome.history[-1]["eval_top1"], abs=0.3
    )


def test_a_model_that_ends_otherwise_is_refused(frozen, tmp_path):
    with pytest.raises(UsageError, match="oddity/tail does not end in its classifier"):
        train(frozen(model="oddity/tail"), tmp_path / "a")
    assert not (tmp_path / "a").exists()
