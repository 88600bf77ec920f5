"""The core's own parts make up a training run that learns."""

from __future__ import annotations

import pytest
import torch

import zoo

pytest.importorskip("sklearn", reason="needs the extra [demo]")


def test_small_cnn_learns_the_digits() -> None:
    torch.manual_seed(0)
    crop = zoo.create_augmentation(
        "zoo/random_crop", size=8, padding=1, generator=torch.Generator().manual_seed(0)
    )
    train = zoo.create_dataset("zoo/digits", split="train", transform=crop)
    test = zoo.create_dataset("zoo/digits", split="test")
    model = zoo.create_model("cifar/small_cnn", num_classes=10, in_chans=1, img_size=8)
    criterion = zoo.create_loss("zoo/cross_entropy", label_smoothing=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(5):
        for images, targets in torch.utils.data.DataLoader(train, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            criterion(model(images), targets).backward()
            optimizer.step()
    with torch.no_grad():
        right = model(test.images).argmax(1) == test.targets
    assert right.float().mean() > 0.9
