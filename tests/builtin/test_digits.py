"""The data set ``zoo/digits``."""

from __future__ import annotations

import hashlib
import sys

import pytest
import torch

import zoo

pytest.importorskip("sklearn", reason="needs the extra [demo]")


def test_split_is_stratified_and_complete() -> None:
    train, test = (zoo.create_dataset("zoo/digits", split=s) for s in ("train", "test"))
    assert (len(train), len(test)) == (1437, 360)
    share = torch.bincount(train.targets) / (
        torch.bincount(train.targets) + torch.bincount(test.targets)
    )
    assert torch.allclose(share, torch.full((10,), 1437 / 1797), atol=0.005)

    from sklearn.datasets import load_digits

    everything = torch.from_numpy(load_digits().images).float() / 16
    mine = torch.cat([train.images, test.images]).squeeze(1)
    assert torch.equal(torch.unique(everything, dim=0), torch.unique(mine, dim=0))


def test_split_never_changes() -> None:
    """Published results depend on it, so another scikit-learn must give the same one."""
    test = zoo.create_dataset("zoo/digits", split="test")
    levels = (test.images * 16).to(torch.uint8).numpy().tobytes()
    digest = hashlib.sha256(levels + bytes(test.targets.tolist())).hexdigest()
    assert digest == "33668cfbe0367fcadef980065a5d0b70af462f9ef710a6ddb7d6d9dd97300a1f"


def test_items() -> None:
    data = zoo.create_dataset("zoo/digits", split="train")
    image, target = data[0]
    assert image.shape == (1, 8, 8)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert isinstance(target, int)
    assert data.classes == tuple("0123456789")
    again = zoo.create_dataset("zoo/digits", split="train", transform=lambda x: x + 1)
    assert torch.equal(again[0][0], image + 1)
    assert len(list(data)) == 1437


def test_a_loader_takes_it() -> None:
    data = zoo.create_dataset("zoo/digits", split="test")
    images, targets = next(iter(torch.utils.data.DataLoader(data, batch_size=32)))
    assert images.shape == (32, 1, 8, 8)
    assert targets.dtype == torch.int64


def test_unknown_split() -> None:
    with pytest.raises(zoo.UsageError, match="no split 'val'; there are train, test"):
        zoo.create_dataset("zoo/digits", split="val")


def test_without_scikit_learn_the_remedy_is_named(monkeypatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)  # what an import of nothing finds
    with pytest.raises(zoo.ZooError, match=r"pip install 'zoo-vision\[demo\]'") as caught:
        zoo.create_dataset("zoo/digits", split="train")
    assert "\n" not in str(caught.value)
