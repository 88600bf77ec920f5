"""The loader: the same batches whoever assembles them."""

from __future__ import annotations

import math
import pickle
import threading
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.loader import Batch, Loader
from zoo.data.pipeline import eval_transform, train_transform
from zoo.errors import UsageError

SIZE = (3, 8, 8)


class Memory(torch.utils.data.Dataset):
    """Images whose pixels tell them apart."""

    classes = ("a", "b", "c")

    def __init__(self, samples: int, size: tuple[int, int, int] = SIZE, dtype=torch.uint8) -> None:
        generator = torch.Generator().manual_seed(samples)
        images = torch.randint(256, (samples, *size), generator=generator, dtype=torch.uint8)
        self.images = images if dtype == torch.uint8 else images.to(dtype) / 255
        self.targets = torch.arange(samples) % 3

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.images[index], int(self.targets[index])


def plain(**arguments: Any):
    return eval_transform(SIZE, mean=(0, 0, 0), std=(1, 1, 1), **arguments)


def everything(**arguments: Any):
    """Augmentations of all kinds but those that draw from global generators."""
    return train_transform(
        SIZE, color_jitter=0.4, reprob=0.5, mixup=0.5, cutmix=0.5, num_classes=3, **arguments
    )


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for ours, theirs in zip(first, second, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


@given(
    samples=st.integers(1, 40),
    batch_size=st.integers(1, 17),
    world=st.integers(1, 4),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
@settings(deadline=None)
def test_the_ranks_share_every_batch(samples, batch_size, world, shuffle, drop_last) -> None:
    if drop_last and samples < batch_size * world:
        return
    data = Memory(samples)

    def load(size: int, rank: int, world: int) -> list[Batch]:
        loader = Loader(
            data,
            size,
            transform=plain(),
            seed=3,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world=world,
        )
        batches = list(loader)
        assert len(batches) == len(loader)
        return batches

    alone = load(batch_size * world, 0, 1)
    ranks = [load(batch_size, rank, world) for rank in range(world)]
    assert all(len(batch.images) <= batch_size for rank in ranks for batch in rank)
    for number, whole in enumerate(alone):
        for field in range(3):
            parts = torch.cat([rank[number][field] for rank in ranks])
            assert torch.equal(parts, whole[field])
    seen = torch.cat([batch.indices for batch in alone])
    if drop_last:
        assert len(seen) == samples // (batch_size * world) * batch_size * world
        assert len(seen.unique()) == len(seen)
    else:
        assert torch.equal(seen.sort().values, torch.arange(samples))
    for batch in alone:
        assert torch.equal(batch.images, data.images[batch.indices].float() / 255)
        assert torch.equal(batch.targets, data.targets[batch.indices])


def test_mixed_batches_are_shared_too() -> None:
    data = Memory(48)
    arguments = {"transform": everything(), "shuffle": True}
    alone = list(Loader(data, 12, **arguments))
    ranks = [list(Loader(data, 6, **arguments, rank=rank, world=2)) for rank in range(2)]
    together = [
        Batch(*(torch.cat(parts) for parts in zip(*shares, strict=True)))
        for shares in zip(*ranks, strict=True)
    ]
    assert same(alone, together)


def with_image_level(**arguments: Any):
    """One that runs in processes."""
    return everything(augment=["zoo/rotation"], **arguments)


@pytest.mark.parametrize("transform", [everything(), with_image_level()], ids=["threads", "forks"])
def test_workers_change_nothing(transform) -> None:
    data = Memory(70)

    def load(workers: int, epoch: int, start: int = 0) -> list[Batch]:
        loader = loaders[workers]
        loader.set_epoch(epoch)
        loader.start(start)
        return list(loader)

    loaders = {
        workers: Loader(data, 8, transform=transform, seed=5, shuffle=True, workers=workers)
        for workers in (0, 1, 2, 20)
    }
    first = load(0, 0)
    for workers in loaders:
        assert same(load(workers, 0), first)
        assert same(load(workers, 1, start=5), load(0, 1)[5:])
        assert not same(load(workers, 1), first)


def test_batches_can_be_sent_to_processes_that_are_not_forks() -> None:
    loader = Loader(Memory(20), 8, transform=with_image_level(), shuffle=True)
    sent = pickle.loads(pickle.dumps(loader._batches))
    assert same([sent[0, number][0] for number in range(3)], list(loader))


@pytest.mark.parametrize("transform", [everything(), with_image_level()], ids=["batch", "image"])
def test_global_generators_have_no_say(transform) -> None:
    loader = Loader(Memory(20), 8, transform=transform, shuffle=True)
    torch.manual_seed(1)
    first, after = list(loader), torch.rand(())
    torch.manual_seed(1)
    assert torch.rand(()) == after
    assert same(list(loader), first)


def test_what_happens_to_a_sample_depends_on_no_other() -> None:
    """Neither on the batch's size nor on the order, as long as nothing mixes."""
    data, seen = Memory(30), {}
    transform = train_transform(SIZE, color_jitter=0.4, reprob=0.5, augment=["batch_rotation"])
    for batch_size, shuffle in ((1, False), (7, False), (30, True)):
        for batch in Loader(data, batch_size, transform=transform, seed=1, shuffle=shuffle):
            for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
                torch.testing.assert_close(image, seen.setdefault(index, image))
    assert len(seen) == 30


def test_start_is_for_the_next_iteration_only() -> None:
    loader = Loader(Memory(20), 4, transform=everything(), shuffle=True)
    whole = list(loader)
    loader.start(3)
    assert same(list(loader), whole[3:])
    assert same(list(loader), whole)
    loader.start(5)
    assert list(loader) == []
    with pytest.raises(UsageError, match="there is no batch 6: an epoch has 5"):
        loader.start(6)


@pytest.mark.parametrize("transform", [everything(), with_image_level()], ids=["threads", "forks"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_iteration_may_be_left_early(transform, workers) -> None:
    loader = Loader(Memory(64), 4, transform=transform, workers=workers)
    for _ in range(3):
        next(iter(loader))
    assert len(list(loader)) == 16


def test_the_shuffle_is_fair_and_new_each_epoch() -> None:
    loader = Loader(Memory(12), 12, transform=plain(), shuffle=True)
    places = torch.zeros(12, 12)
    for epoch in range(600):
        loader.set_epoch(epoch)
        places[torch.arange(12), next(iter(loader)).indices] += 1
    expected = 600 / 12
    chi_squared = ((places - expected) ** 2 / expected).sum()
    assert chi_squared < 11 * 11 + 5 * math.sqrt(2 * 11 * 11)


def test_float_images_and_other_channels() -> None:
    grey = Memory(6, (1, 8, 8), torch.float32)
    (batch,) = Loader(grey, 6, transform=plain())
    assert torch.equal(batch.images, grey.images.expand(-1, 3, -1, -1))
    colour = Memory(6)
    transform = eval_transform((1, 8, 8), mean=(0.5,), std=(0.5,))
    (batch,) = Loader(colour, 6, transform=transform)
    assert batch.images.shape == (6, 1, 8, 8)
    with pytest.raises(UsageError, match="2 channels"):
        list(Loader(Memory(6, (2, 8, 8)), 6, transform=plain()))


class Bare(torch.utils.data.Dataset):
    """No more than a data set of a plugin has to be."""

    classes = ("a", "b", "c")

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from torchvision.transforms.v2.functional import to_pil_image

        image, target = self.memory[index]
        return to_pil_image(image), target


def test_any_map_style_data_set_will_do() -> None:
    memory = Memory(10, (3, 12, 9))
    for data in (memory, Bare(memory)):
        batches = list(Loader(data, 4, transform=plain(crop_pct=1.0)))
        assert [tuple(batch.images.shape) for batch in batches] == [(4, *SIZE)] * 2 + [(2, *SIZE)]
        assert torch.cat([batch.targets for batch in batches]).tolist() == memory.targets.tolist()


def test_threads_leave_the_number_of_threads_alone() -> None:
    inside, outside = [], []

    class Spy(Bare):
        def __getitem__(self, index: int) -> tuple[Any, int]:
            inside.append(torch.get_num_threads())
            return super().__getitem__(index)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in Loader(Spy(Memory(40)), 4, transform=plain(), workers=2):
            thread = threading.Thread(target=lambda: outside.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            outside.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    # The targets were read here, the images in threads.
    assert inside == [2] * 40 + [1] * 40
    assert outside == [2] * 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "the batch size must be at least 1, not 0"),
        ({"workers": -1}, "the number of workers must be at least 0, not -1"),
        ({"rank": 2, "world": 2}, "rank 2 is not one of a world of 2"),
        ({"on_error": "ignore"}, "on_error must be raise or skip, not 'ignore'"),
        ({"batch_size": 11, "drop_last": True}, "10 samples do not fill one batch of 11"),
    ],
)
def test_wrong_arguments(arguments, message) -> None:
    with pytest.raises(UsageError, match=message):
        Loader(Memory(10), **{"batch_size": 4, "transform": plain(), **arguments})


def test_an_empty_data_set() -> None:
    with pytest.raises(UsageError, match="the data set is empty"):
        Loader(Memory(0), 4, transform=plain())
