"""Which of zoo's activations a module, a function or a method of PyTorch's or timm's is."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from zoo.nn._batch_norm import is_plain
from zoo.ops import Activation

FROM_OUTPUT: frozenset[Activation] = frozenset(
    ("none", "relu", "relu6", "sigmoid", "tanh", "hardsigmoid", "leaky_relu")
)
"""Those whose derivative follows from their output: their input need not be kept."""

_MODULES: dict[str, Activation] = {
    "Identity": "none",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "SiLU": "silu",
    "GELU": "gelu",
    "Hardswish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "LeakyReLU": "leaky_relu",
}

_CLASSES: dict[type, Activation] = {getattr(nn, name): kind for name, kind in _MODULES.items()}

# timm's own classes of the same functions; zoo.nn does not need timm.
_TIMM = {"Sigmoid", "Tanh", "GELU"}

_FUNCTIONS: dict[Any, Activation] = {
    F.relu: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",
    F.relu6: "relu6",
    torch.sigmoid: "sigmoid",
    torch.sigmoid_: "sigmoid",
    F.sigmoid: "sigmoid",
    torch.tanh: "tanh",
    torch.tanh_: "tanh",
    F.tanh: "tanh",
    F.silu: "silu",
    F.gelu: "gelu",
    F.hardswish: "hardswish",
    F.hardsigmoid: "hardsigmoid",
    F.leaky_relu: "leaky_relu",
}

_METHODS: dict[str, Activation] = {
    "relu": "relu",
    "relu_": "relu",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "tanh": "tanh",
    "tanh_": "tanh",
}

_SLOPE = 0.01  # of leaky_relu


def module_activation(module: nn.Module) -> Activation | None:
    """The activation that a module is; None for any other module."""
    kind = type(module)
    if kind.__module__ == "timm.layers.activations" and kind.__name__ in _TIMM:
        return _MODULES[kind.__name__]
    found = _CLASSES.get(kind)
    if found == "gelu" and getattr(module, "approximate", None) != "none":
        return None
    if found == "leaky_relu" and getattr(module, "negative_slope", None) != _SLOPE:
        return None
    return found


def bn_activation(bn: nn.Module) -> Activation | None:
    """The activation that a BatchNorm of timm's ends in; "none" of a plain one; None: it varies."""
    drop, act = bn._modules.get("drop"), bn._modules.get("act")
    if drop is not None and not (type(drop) is nn.Identity and is_plain(drop)):
        return None
    if act is None:
        return "none"
    return module_activation(act) if is_plain(act) else None


def node_activation(node: fx.Node) -> Activation | None:
    """The activation that a call of a function or method is; None for any other call."""
    if node.op == "call_method":
        found = _METHODS.get(str(node.target)) if len(node.args) == 1 else None
        return None if node.kwargs else found
    found = _FUNCTIONS.get(node.target) if node.op == "call_function" else None
    options = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    rest = node.args[1:]
    if found == "leaky_relu":
        slope = rest[0] if rest else options.pop("negative_slope", _SLOPE)
        return found if slope == _SLOPE and not options else None
    if found == "gelu":
        approximate = options.pop("approximate", "none")
        return found if approximate == "none" and not options and not rest else None
    # What may follow is whether it works in place.
    return None if options or not all(isinstance(each, bool) for each in rest) else found
