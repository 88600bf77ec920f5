"""Prepares a module for ONNX Runtime."""

from __future__ import annotations

from typing import Any

import onnxruntime
import torch
from torch import nn

from zoo.backends import Run
from zoo.backends.onnx import export


def prepare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """A session with all of its optimizations."""
    exported = export(module, args, kwargs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        exported.model, options, providers=["CPUExecutionProvider"]
    )
    return exported.bind(
        lambda arrays: session.run(
            exported.outputs, dict(zip(exported.inputs, arrays, strict=True))
        )
    )
