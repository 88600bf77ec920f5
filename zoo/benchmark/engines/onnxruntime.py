"""ONNX Runtime (MIT), its CPU provider."""

from __future__ import annotations

import numpy as np
import onnxruntime

from zoo.benchmark.engines.graph import INPUT, OUTPUT, onnx_model
from zoo.benchmark.engines.task import Loaded, Task


def load(task: Task) -> Loaded:
    """Make a session whose input and output are bound, so that nothing is copied."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        onnx_model(task), options, providers=["CPUExecutionProvider"]
    )
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    output = value(np.empty(task.case.output_shape, np.float32))
    binding = session.io_binding()
    binding.bind_ortvalue_input(INPUT, value(task.input))
    binding.bind_ortvalue_output(OUTPUT, output)
    return Loaded(lambda: session.run_with_iobinding(binding), lambda _: output.numpy())
