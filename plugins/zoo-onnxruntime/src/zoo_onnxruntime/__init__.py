"""The plugin ``onnxruntime``: a backend that runs networks by ONNX Runtime."""

from __future__ import annotations

import zoo

zoo_api = ">=1,<2"


@zoo.hookimpl
def zoo_backends() -> list[zoo.Backend]:
    """ONNX Runtime's CPU provider."""
    return [
        zoo.Backend(
            "onnxruntime",
            prepare="zoo_onnxruntime.backend:prepare",
            requires=("onnxruntime", "onnx", "onnxscript"),
            license="MIT",
            summary="ONNX Runtime's CPU provider",
        )
    ]
