"""Inference engines that are no part of PyTorch, each measured in a process of its own.

``remote`` is the measuring process's end, ``process`` the engine's, which knows no torch; each
engine has a module with a loader that takes a ``task.Task``. Nothing of zoo depends on them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from importlib import metadata

PACKAGES = {
    "openvino": ("openvino", "onnx"),
    "openvino-nhwc": ("openvino", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "ncnn": ("ncnn",),
    "mnn": ("MNN", "onnx"),
    "mnn-exact": ("MNN", "onnx"),
}
"""Engine -> the packages that it takes, by the names that they are imported and installed by."""


def missing_packages(engine: str) -> list[str]:
    """The packages that an engine lacks here."""
    return [name for name in PACKAGES[engine] if not importlib.util.find_spec(name)]


def versions(engines: Iterable[str]) -> dict[str, str]:
    """Versions of the packages of installed engines."""
    names = dict.fromkeys(name for engine in engines for name in PACKAGES[engine])
    return {name: metadata.version(name) for name in names}
