"""The plugin ``openvino``: a backend that runs networks by OpenVINO."""

from __future__ import annotations

import zoo

zoo_api = ">=1,<2"


@zoo.hookimpl
def zoo_backends() -> list[zoo.Backend]:
    """OpenVINO's CPU plugin, for the least latency and for the most images."""
    return [
        zoo.Backend(
            "openvino",
            prepare="zoo_openvino.backend:prepare",
            requires=("openvino", "onnx", "onnxscript"),
            license="Apache-2.0",
            summary="OpenVINO on the CPU, one stream, for the least latency",
        ),
        zoo.Backend(
            "openvino-throughput",
            prepare="zoo_openvino.backend:prepare_throughput",
            requires=("openvino", "onnx", "onnxscript"),
            license="Apache-2.0",
            summary="OpenVINO with the images of a batch spread over streams",
        ),
    ]
