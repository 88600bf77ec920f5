"""Errors with the weights that folding a BatchNorm gives, where channels are six decades apart.

The maximum of the whole output would hide what happens to small channels, so each output channel
is held to its own maximum, and each output to its own sum |weight| |input|.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from zoo import ops

FILE = Path(__file__).parents[2] / "benchmarks" / "folded_batch_norm.py"
SHAPES = {  # N, C, H, W, O, kernel, stride, padding, groups
    "winograd4": (1, 64, 28, 28, 64, 3, 1, 1, 1),
    "winograd2": (1, 512, 7, 7, 512, 3, 1, 1, 1),
    "gemm": (1, 128, 14, 14, 80, 3, 2, 1, 1),
    "direct": (1, 3, 56, 56, 64, 7, 2, 3, 1),
    "depthwise": (1, 184, 14, 14, 184, 3, 1, 1, 184),
}
"""By the implementation that a packed weight gets."""


@pytest.fixture(scope="module")
def benchmark(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    """The script that measures such errors over more layers."""
    return load_script(FILE)


@pytest.mark.parametrize("unequal_inputs", [False, True])
@pytest.mark.parametrize("precision", ["default", "exact"])
@pytest.mark.parametrize("name", SHAPES)
def test_unequal_scales_cost_no_channel_its_digits(
    name: str, precision: str, unequal_inputs: bool, capability: str, benchmark: ModuleType
) -> None:
    of_channel, backward = benchmark.errors(SHAPES[name], precision, unequal_inputs)
    winograd = name.startswith("winograd") and precision == "default"
    assert of_channel <= (4e-6 if winograd else 1.5e-6)
    assert backward <= (1e-5 if winograd else 1.5e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_get_the_kernels_that_they_are_for(name: str) -> None:
    n, c, h, w, o, kernel, *window, groups = SHAPES[name]
    rows = ops.explain_conv2d(
        (n, c, h, w), (o, c // groups, kernel, kernel), *window, 1, groups, packed=True
    )
    assert [row["implementation"] for row in rows if row["chosen"]] == [name]
