"""PyTorch's own sample inputs for the functions that ours stand in for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from zoo import ops

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "nn.functional.conv2d": ops.conv2d,
    "nn.functional.max_pool2d": ops.max_pool2d,
    "nn.functional.avg_pool2d": ops.avg_pool2d,
    "nn.functional.adaptive_avg_pool2d": ops.adaptive_avg_pool2d,
}


def infos() -> Iterator[Any]:
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        # Importing PyTorch's tests would forbid the whole process to set flags of cuDNN.
        patch.setattr("torch.backends.disable_global_flags", lambda: None)
        from torch.testing._internal.common_methods_invocations import op_db

    return (info for info in op_db if info.name in FUNCTIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorchs_samples(name: str, dtype: torch.dtype, capability: str) -> None:
    (info,) = (info for info in infos() if info.name == name)
    count = 0
    for sample in info.sample_inputs("cpu", dtype, requires_grad=True):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using padding='same'")
            expected = info.op(sample.input, *sample.args, **sample.kwargs)
        result = FUNCTIONS[name](sample.input, *sample.args, **sample.kwargs)
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=2e-5)
        count += 1
    assert count > 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorchs_error_inputs(name: str) -> None:
    """What PyTorch refuses, we refuse too."""
    (info,) = (info for info in infos() if info.name == name)
    if info.error_inputs_func is None:
        pytest.skip("PyTorch has none")
    for error in info.error_inputs(torch.device("cpu")):
        sample = error.sample_input
        with pytest.raises((RuntimeError, ValueError, TypeError, NotImplementedError)):
            FUNCTIONS[name](sample.input, *sample.args, **sample.kwargs)
