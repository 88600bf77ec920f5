"""OpenVINO (Apache-2.0), through its ONNX reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino

from zoo.benchmark.engines.graph import onnx_model
from zoo.benchmark.engines.task import Array, Loaded, Task


def _settings(task: Task) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": task.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }


def _request(task: Task, model: openvino.Model, input: Array) -> Callable[[], Array]:
    compiled = openvino.Core().compile_model(model, "CPU", _settings(task))
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(input))  # copied
    # Shared outputs are not copied into new arrays.
    return lambda: request.infer(share_outputs=True)[0]


def load(task: Task) -> Loaded:
    """Compile for NCHW in and out."""
    model = openvino.Core().read_model(onnx_model(task))
    return Loaded(_request(task, model, task.input), np.array)


def load_nhwc(task: Task) -> Loaded:
    """Compile for NHWC in and out."""
    model = openvino.preprocess.PrePostProcessor(openvino.Core().read_model(onnx_model(task)))
    model.input().tensor().set_layout(openvino.Layout("NHWC"))
    model.input().model().set_layout(openvino.Layout("NCHW"))
    model.output().model().set_layout(openvino.Layout("NCHW"))
    model.output().tensor().set_layout(openvino.Layout("NHWC"))
    input = np.ascontiguousarray(task.input.transpose(0, 2, 3, 1))
    return Loaded(_request(task, model.build(), input), lambda output: output.transpose(0, 3, 1, 2))
