"""Prepares a module for MNN, through its ONNX converter."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.backends import Run
from zoo.backends.onnx import Array, export
from zoo.errors import ZooError

_WINOGRAD_MEMORY_LEVEL = 3  # the number of this hint in MNN's HintMode


@contextmanager
def _quiet() -> Iterator[None]:
    """What MNN and its converter print goes to stderr: stdout is for data."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


with _quiet():
    # The converter itself. The package MNN.tools around it, when it is imported, installs a
    # logging client into the first Python on the PATH, and its commands report what they convert.
    import _tools
    import MNN
    from MNN import expr


def prepare(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    winograd_level: int | None = None,
) -> Run:
    """A module of MNN's with precision "high"."""
    exported = export(module, args, kwargs)
    settings = {"backend": "CPU", "numThread": torch.get_num_threads(), "precision": "high"}
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        runtime = MNN.nn.create_runtime_manager((settings,))
        if winograd_level is not None:
            runtime.set_hint(_WINOGRAD_MEMORY_LEVEL, winograd_level)
        source, target = Path(folder, "network.onnx"), Path(folder, "network.mnn")
        source.write_bytes(exported.model)
        files = ["--modelFile", str(source), "--MNNModel", str(target)]
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "zoo"])
        if not target.exists():
            raise ZooError("MNN's converter made no network; its messages say why")
        network = MNN.nn.load_module_from_file(
            str(target),
            list(exported.inputs),
            list(exported.outputs),
            runtime_manager=runtime,
            shape_mutable=False,
        )

    def compute(arrays: list[Array]) -> list[Array]:
        inputs = [expr.const(each, list(each.shape), expr.NCHW, expr.float) for each in arrays]
        outputs = network.forward(inputs)
        return [
            np.array(expr.convert(output, expr.NCHW).read()).reshape(shape)
            for output, shape in zip(outputs, exported.output_shapes, strict=True)
        ]

    return exported.bind(compute)


def prepare_exact(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """The same with the smallest Winograd tiles: the larger ones are off by up to 1e-3."""
    return prepare(module, args, kwargs, winograd_level=1)
