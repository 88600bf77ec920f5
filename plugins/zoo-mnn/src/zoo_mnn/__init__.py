"""The plugin ``mnn``: backends that run networks by MNN."""

from __future__ import annotations

import zoo

zoo_api = ">=1,<2"


@zoo.hookimpl
def zoo_backends() -> list[zoo.Backend]:
    """MNN with precision "high", as it comes and with its smallest Winograd tiles."""
    return [
        zoo.Backend(
            name,
            prepare=f"zoo_mnn.backend:{target}",
            requires=("MNN", "onnx", "onnxscript"),
            license="Apache-2.0",
            summary=summary,
        )
        for name, target, summary in (
            ("mnn", "prepare", "MNN with precision high; its Winograd is off by up to 1e-3"),
            ("mnn-exact", "prepare_exact", "the same with the smallest Winograd tiles"),
        )
    ]
