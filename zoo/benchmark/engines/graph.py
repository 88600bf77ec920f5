"""A task as an ONNX model, which OpenVINO, ONNX Runtime and MNN read."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.benchmark.engines.task import Task

OPSET, IR_VERSION = 20, 9  # 20 is the first with Gelu

INPUT, OUTPUT = "input", "output"


def _activation_nodes(name: str, source: str, target: str) -> list[onnx.NodeProto]:
    if name == "silu":
        return [
            helper.make_node("Sigmoid", [source], ["gate"]),
            helper.make_node("Mul", [source, "gate"], [target]),
        ]
    if name == "relu6":
        return [helper.make_node("Clip", [source, "zero", "six"], [target])]
    operators: dict[str, tuple[str, dict[str, Any]]] = {
        "relu": ("Relu", {}),
        "sigmoid": ("Sigmoid", {}),
        "tanh": ("Tanh", {}),
        "gelu": ("Gelu", {"approximate": "none"}),
        "hardswish": ("HardSwish", {}),
        "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    }
    operator, attributes = operators[name]
    return [helper.make_node(operator, [source], [target], **attributes)]


def onnx_model(task: Task) -> bytes:
    """Return the model, serialised, with its weights inside; tensors are NCHW."""
    case = task.case
    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []
    last = INPUT
    if task.convolves:
        constants += [
            numpy_helper.from_array(task.weight, "weight"),
            numpy_helper.from_array(task.bias, "bias"),
        ]
        nodes.append(
            helper.make_node(
                "Conv",
                [INPUT, "weight", "bias"],
                ["convolved"],
                kernel_shape=[case.kernel] * 2,
                strides=[case.stride] * 2,
                pads=[case.padding] * 4,
                group=case.groups,
            )
        )
        last = "convolved"
        if task.activation != "none":
            nodes += _activation_nodes(task.activation, last, "activated")
            last = "activated"
        if task.activation == "relu6":
            constants += [
                helper.make_tensor(name, TensorProto.FLOAT, [], [value])
                for name, value in (("zero", 0.0), ("six", 6.0))
            ]
    if task.pool:
        kind, kernel, stride, padding = task.pool
        window = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [padding] * 4,
            **({"count_include_pad": 1} if kind == "avg" else {}),
        }
        operator = "MaxPool" if kind == "max" else "AveragePool"
        nodes.append(helper.make_node(operator, [last], ["pooled"], **window))
    nodes[-1].output[0] = OUTPUT
    graph = helper.make_graph(
        nodes,
        case.op,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, task.input.shape)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, case.output_shape)],
        constants,
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
