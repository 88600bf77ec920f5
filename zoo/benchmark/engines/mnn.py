"""MNN (Apache-2.0), converted from ONNX."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

# The converter itself. The package MNN.tools around it, when it is imported, installs a logging
# client into the first Python on the PATH, and its commands report what they convert.
import _tools
import MNN
import numpy as np
from MNN import expr

from zoo.benchmark.engines.graph import INPUT, OUTPUT, onnx_model
from zoo.benchmark.engines.task import Array, Loaded, Task

_WINOGRAD_MEMORY_LEVEL = 3  # the number of this hint in MNN's HintMode


def _module(task: Task, runtime: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "case.onnx"), Path(folder, "case.mnn")
        source.write_bytes(onnx_model(task))
        files = ["--modelFile", str(source), "--MNNModel", str(target)]
        # Input and output stay in MNN's own layout, as between the layers of a network.
        options = ["--bizCode", "zoo", "--keepInputFormat=0"]
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, *options])
        return MNN.nn.load_module_from_file(
            str(target), [INPUT], [OUTPUT], runtime_manager=runtime, shape_mutable=False
        )


def load(task: Task, winograd_level: int | None = None) -> Loaded:
    """Load a module with precision "high". (Sessions overwrite their input.)"""
    settings = {"backend": "CPU", "numThread": task.threads, "precision": "high"}
    runtime = MNN.nn.create_runtime_manager((settings,))
    if winograd_level is not None:
        runtime.set_hint(_WINOGRAD_MEMORY_LEVEL, winograd_level)
    module = _module(task, runtime)
    plain = expr.const(task.input, list(task.input.shape), expr.NCHW, expr.float)
    input = expr.convert(plain, expr.NC4HW4)

    def read(output: Any) -> Array:
        return np.array(expr.convert(output, expr.NCHW).read()).reshape(task.case.output_shape)

    return Loaded(partial(module.forward, input), read)


def load_exact(task: Task) -> Loaded:
    """The same with the smallest Winograd tiles: the larger ones are off by up to 1e-3."""
    return load(task, winograd_level=1)
