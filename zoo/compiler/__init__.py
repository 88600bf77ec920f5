"""Whole networks: a module's graph, captured, rewritten for zoo's kernels, and run in one call."""

from zoo.compiler.capture import Captured, CaptureError, capture
from zoo.compiler.network import ChangedWeightsError, Network, PlanError
from zoo.compiler.optimize import optimize, prepare, prepare_exact
from zoo.compiler.optimized import OptimizedModule, load_optimized
from zoo.compiler.passes import rewrite
from zoo.compiler.saved import SavedModuleError

__all__ = [
    "CaptureError",
    "Captured",
    "ChangedWeightsError",
    "Network",
    "OptimizedModule",
    "PlanError",
    "SavedModuleError",
    "capture",
    "load_optimized",
    "optimize",
    "prepare",
    "prepare_exact",
    "rewrite",
]
