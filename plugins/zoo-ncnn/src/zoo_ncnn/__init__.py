"""The plugin ``ncnn``: a backend that runs networks by ncnn."""

from __future__ import annotations

import zoo

zoo_api = ">=1,<2"


@zoo.hookimpl
def zoo_backends() -> list[zoo.Backend]:
    """ncnn without 16-bit storage or arithmetic."""
    return [
        zoo.Backend(
            "ncnn",
            prepare="zoo_ncnn.backend:prepare",
            requires=("ncnn", "pnnx", "onnx", "onnxscript"),
            license="BSD-3-Clause",
            summary="ncnn in float32; a batch is a loop over its images",
        )
    ]
