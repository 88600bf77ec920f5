"""A module as an ONNX model, which most engines read. Needs the packages onnx and onnxscript."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo.backends import Run
from zoo.errors import ZooError

Array = NDArray[Any]


@dataclass(frozen=True)
class Exported:
    """An ONNX model, and how its inputs and outputs belong to the module's.

    Attributes:
        model: the model, serialised, with its weights inside.
        inputs: names of its inputs, one for each tensor among the module's, in order.
        outputs: names of its outputs, likewise.
        output_shapes: their sizes.
    """

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    _returned: Any  # what the module returned for the example

    def bind(self, compute: Callable[[list[Array]], Sequence[Array]]) -> Run:
        """Make what a backend's ``prepare`` returns.

        Args:
            compute: from contiguous arrays, one for each of ``inputs``, to arrays for ``outputs``
                that it does not write to again.
        """
        leaves, structure = pytree.tree_flatten(self._returned)

        def run(*args: Any, **kwargs: Any) -> Any:
            given = [
                leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)
            ]
            arrays = compute([tensor.detach().contiguous().numpy() for tensor in given])
            computed = iter(arrays)
            returned = [
                torch.from_numpy(np.asarray(next(computed))) if isinstance(leaf, Tensor) else leaf
                for leaf in leaves
            ]
            return pytree.tree_unflatten(returned, structure)

        return run


def export(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exported:
    """Write a module down as ONNX, for inputs of exactly these sizes, in float32.

    Raises:
        ZooError: ``torch.onnx`` cannot, or an input or output has no counterpart.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        returned = module(*args, **kwargs)
        try:
            program = torch.onnx.export(
                module, args, kwargs=dict(kwargs), dynamo=True, verbose=False
            )
        except Exception as error:  # of several kinds, with pages of advice
            cause = error.__cause__ or error
            text = str(cause).strip().splitlines() or [""]
            raise ZooError(
                f"torch.onnx cannot export it: {type(cause).__name__}: {text[0]}"
            ) from error
    assert program is not None  # as it writes no file
    graph = program.model_proto.graph
    given = [leaf for leaf in pytree.tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
    wanted = [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]
    if (len(graph.input), len(graph.output)) != (len(given), len(wanted)):
        raise ZooError(
            f"its ONNX model has {len(graph.input)} inputs and {len(graph.output)} outputs, the "
            f"module {len(given)} and {len(wanted)}"
        )
    return Exported(
        program.model_proto.SerializeToString(),
        tuple(value.name for value in graph.input),
        tuple(value.name for value in graph.output),
        tuple(tuple(leaf.shape) for leaf in wanted),
        returned,
    )
