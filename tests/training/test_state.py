"""The state of a run as a file."""

from __future__ import annotations

import random
import resource
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.optim import create_optimizer_v2
from torch import nn

from zoo.training.state import (
    Place,
    StateError,
    load_optimizer,
    read_state,
    seed_step,
    write_state,
)

dtypes = st.sampled_from([torch.float32, torch.int64, torch.bool, torch.float16, torch.uint8])
tensors = st.builds(
    lambda dtype, shape: torch.arange(int(np.prod(shape))).reshape(shape).to(dtype),
    dtypes,
    st.lists(st.integers(0, 3), max_size=3),
)
finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | st.integers() | finite | st.text() | tensors
states = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("state") / "state.safetensors"


@settings(deadline=None)
@given(parts=st.dictionaries(st.text(), states, max_size=3), loss=finite)
def test_states_come_back(path, parts, loss):
    place = Place(epoch=2, batch=3, updates=9, loss_sum=loss, history=[{"epoch": 0.0}])
    write_state(path, parts, place)
    read, read_place = read_state(path)
    assert same(read, parts)
    assert read_place == place


def test_tensors_that_share_memory(tmp_path):
    weight = torch.randn(4, 4)
    parts = {"a": {"w": weight, "tied": weight, "row": weight[1], "turned": weight.T}}
    write_state(tmp_path / "s", parts, Place())
    assert same(read_state(tmp_path / "s")[0], parts)


def test_damage_is_one_line(tmp_path):
    path = tmp_path / "state.safetensors"
    write_state(path, {"a": torch.ones(100)}, Place())
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    for damaged in (bytes(data), data[:-9], b"", b"nonsense"):
        path.write_bytes(damaged)
        with pytest.raises(StateError) as error:
            read_state(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_full_disk_leaves_the_old_state_whole(tmp_path):
    path = tmp_path / "state.safetensors"
    old = {"a": torch.ones(1000)}
    write_state(path, old, Place(updates=1))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(StateError, match=r"cannot write .*state.safetensors"):
            write_state(path, {"a": torch.zeros(5000)}, Place(updates=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    parts, place = read_state(path)
    assert same(parts, old)
    assert place.updates == 1
    assert [held.name for held in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("opt", ["adamw", "sgd", "lamb", "lion", "rmsproptf", "adafactor"])
def test_optimizers_come_back_in_the_layout_of_their_parameters(tmp_path, opt):
    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 9, 2))
        model = model.to(memory_format=torch.channels_last)
        return model, create_optimizer_v2(model, opt, lr=0.01, weight_decay=0.1)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
        model(images.to(memory_format=torch.channels_last)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    model, optimizer = make()
    step(model, optimizer)
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    write_state(tmp_path / "s", parts, Place())
    other, loaded = make()
    parts, _ = read_state(tmp_path / "s")
    other.load_state_dict(parts["model"])
    load_optimizer(loaded, parts["optimizer"])
    for pair in ((model, optimizer), (other, loaded)):
        step(*pair)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    weight = next(other.parameters())
    for value in loaded.state[weight].values():
        if isinstance(value, torch.Tensor) and value.shape == weight.shape:
            assert value.stride() == weight.stride()


def test_steps_draw_numbers_of_their_own():
    def draw(*place: int) -> tuple[float, float, float]:
        seed_step(*place)
        return torch.rand(1).item(), np.random.rand(), random.random()

    places = [(0, 1, 0), (0, 2, 0), (1, 1, 0), (0, 1, 1)]
    drawn = [draw(*place) for place in places]
    assert len({*drawn}) == 4
    assert [draw(*place) for place in places] == drawn
