"""Gradients that are left to PyTorch where it is quicker: which those are, and their values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import training_samples
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.profiler import profile
from training_samples import OPS, last, make

# Which of PyTorch's ops compute gradients within ours, of windows (training_samples.WINDOWS).
PRODUCTS, ITS_OWN, NONE = ["aten::addmm", "aten::mm"], ["aten::convolution_backward"], []
CHOICES: dict[str, tuple[str | tuple[Any, ...], list[str]]] = {
    "1x1": ("1x1", ["aten::mm"]),
    "1x1 in parts": (((9, 8, 32, 32), (64, 8, 1, 1)), PRODUCTS),
    "1x1 of one pixel": (((5, 8, 1, 1), (16, 8, 1, 1)), ["aten::mm"]),
    "1x1 from one channel": (((2, 1, 4, 4), (6, 1, 1, 1)), ["aten::mm"]),
    "1x1 to one channel": (((2, 6, 4, 4), (1, 6, 1, 1)), ["aten::mm"]),
    "1x1 with a stride": ("stride-1x1", ITS_OWN),  # few channels
    "1x1, many channels, with a stride": (((3, 16, 9, 9), (8, 16, 1, 1), 2), NONE),
    "1x1 in groups": ("groups-1x1", ITS_OWN),
    "few pixels": ("3x3", ITS_OWN),
    "more pixels": (((2, 16, 14, 14), (8, 16, 3, 3), 1, 1), NONE),
    "stem": (((2, 3, 48, 48), (8, 3, 7, 7), 2, 3), ITS_OWN),
    "groups": ("groups", ITS_OWN),
    "depthwise": ("depthwise", NONE),
    "depthwise with a stride": ("depthwise-5x5-stride", ITS_OWN),
}


def within(call: Any) -> list[str]:
    """Which of PyTorch's ops for gradients run within a call."""
    with profile() as profiled:
        call()
    names = {event.name for event in profiled.function_events}
    return sorted(names & {*PRODUCTS, *ITS_OWN})


@pytest.mark.usefixtures("allow_fallback")
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str, op: str) -> None:
    window, expected = CHOICES[name]
    if op == "conv2d_pool" and name == "1x1 of one pixel":
        pytest.skip("there is nothing to pool")
    sample = make(op, window, activation="relu")
    training_samples.check(sample)
    found = within(lambda: training_samples.gradients(sample))
    assert found == (["aten::mm"] if expected == PRODUCTS and found == ["aten::mm"] else expected)


@pytest.mark.usefixtures("allow_fallback")
def test_parts_are_added_up() -> None:
    sample = make("conv2d", CHOICES["1x1 in parts"][0], activation="relu")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert within(lambda: training_samples.gradients(sample)) == PRODUCTS
        training_samples.check(sample)
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("allow_fallback")
@pytest.mark.parametrize("name", ["1x1", "few pixels", "groups"])
def test_float64_has_kernels_of_ours_alone(name: str) -> None:
    sample = make("conv2d", CHOICES[name][0], dtype=torch.float64)
    assert within(lambda: training_samples.gradients(sample)) == NONE


@pytest.mark.parametrize("name", ["1x1", "few pixels", "groups"])
def test_error_forbids_pytorchs(name: str) -> None:
    sample = make("conv2d", CHOICES[name][0])
    assert within(lambda: training_samples.gradients(sample)) == NONE


@pytest.mark.usefixtures("allow_fallback")
@pytest.mark.parametrize("name", CHOICES)
def test_strides_are_those_of_the_fake_kernel(name: str) -> None:
    window, _ = CHOICES[name]
    (x, weight, _, *rest), op = make("conv2d", window).args, torch.ops.zoo.conv2d_backward
    stride, padding, dilation, groups = [*rest, *(1, 0, 1, 1)[len(rest) :]]
    options = {
        "activation": "none",
        "precision": "default",
        "output_mask": [True, True, True, False],
    }
    for kernel in (weight, last(weight)):
        pairs = [[each, each] if isinstance(each, int) else list(each) for each in
                 (stride, padding, dilation)]  # fmt: skip
        grad = last(torch.nn.functional.conv2d(x, kernel, None, *pairs, groups))
        real = op(grad, None, x, kernel, *pairs, groups, **options)
        with FakeTensorMode() as mode:
            fakes = [mode.from_tensor(each) for each in (grad, x, kernel)]
            fake = op(fakes[0], None, fakes[1], fakes[2], *pairs, groups, **options)
        for ours, said in zip(real[:3], fake[:3], strict=True):
            assert (ours.shape, ours.stride()) == (said.shape, said.stride())
