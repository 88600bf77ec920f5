"""Prepares a module for OpenVINO, through its ONNX reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import torch
from torch import nn

from zoo.backends import Run
from zoo.backends.onnx import Array, export


def prepare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """A compiled model with one stream, in float32 whatever the processor could do faster."""
    exported = export(module, args, kwargs)
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(exported.model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        },
    )
    request = compiled.create_infer_request()

    def compute(arrays: list[Array]) -> list[Array]:
        # A tenth of a millisecond quicker than to hand the arrays to `infer`.
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
        request.infer(share_outputs=True)
        # Copied, as the request writes into its own tensors again.
        return [np.array(request.get_output_tensor(i).data) for i in range(len(compiled.outputs))]

    return exported.bind(compute)
