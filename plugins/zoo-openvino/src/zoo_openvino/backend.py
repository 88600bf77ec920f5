"""Prepares a module for OpenVINO, through its ONNX reader."""

from __future__ import annotations

from typing import Any

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
        # Outputs are copied: the request writes into its own anew.
        results = request.infer(arrays, share_inputs=True, share_outputs=False)
        return [results[output] for output in compiled.outputs]

    return exported.bind(compute)
