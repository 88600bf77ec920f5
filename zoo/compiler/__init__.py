"""Whole networks: a module's graph, captured and rewritten for zoo's kernels."""

from zoo.compiler.capture import Captured, CaptureError, capture
from zoo.compiler.passes import rewrite

__all__ = ["CaptureError", "Captured", "capture", "rewrite"]
