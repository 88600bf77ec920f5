"""The rewriting of a captured graph: small passes in order, each a function of the graph module.

A pass returns how often it changed something. The graph can run after each.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

import zoo.ops  # noqa: F401  (registers torch.ops.zoo)
from zoo.compiler.passes.activations import unify_activations
from zoo.compiler.passes.affine import (
    compose_affine,
    fold_into_next,
    fold_into_previous,
    unify_affine,
    unify_batch_norm,
)
from zoo.compiler.passes.branches import merge_branches
from zoo.compiler.passes.concatenations import note_channels
from zoo.compiler.passes.constants import fold_constants
from zoo.compiler.passes.functionalize import functionalize
from zoo.compiler.passes.fuse import (
    fuse_activation,
    fuse_gates,
    fuse_pool,
    fuse_residual,
    fuse_shift,
)
from zoo.compiler.passes.noops import compose_permutations, drop_assertions, drop_noops
from zoo.compiler.passes.unify import absorb_padding, unify_conv2d, unify_linear, unify_pools

__all__ = ["PASSES", "rewrite"]

PASSES: tuple[Callable[[fx.GraphModule], int], ...] = (
    functionalize,
    drop_assertions,
    fold_constants,
    drop_noops,
    compose_permutations,
    unify_activations,
    unify_conv2d,
    absorb_padding,
    unify_linear,
    unify_pools,
    unify_batch_norm,
    unify_affine,
    compose_affine,
    fold_into_previous,
    merge_branches,
    # Once more, for what stood behind the branches, or behind another scale.
    compose_affine,
    fold_into_previous,
    fold_into_next,
    fuse_residual,
    fuse_gates,
    fuse_shift,
    fuse_activation,
    fuse_pool,
    note_channels,
)


def rewrite(graph_module: fx.GraphModule) -> list[tuple[str, int]]:
    """Run all passes on a captured graph, in place; the name and count of each that did anything.

    float32 is rewritten; tensors of other dtypes pass through as they are.
    """
    done = [(each.__name__, each(graph_module)) for each in PASSES]
    graph_module.recompile()
    return [(name, count) for name, count in done if count]
