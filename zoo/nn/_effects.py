"""What a node of a traced graph does to the memory of its inputs.

Of a module that is not known here the worst is assumed: that it changes all its inputs in place,
and returns views of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from zoo.nn.fused import FusedConv2d


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    change = getattr(operator, name)

    def call(left: Any, right: Any) -> Any:
        return change(left, right)

    call.__name__ = f"{name}_"
    return call


IN_PLACE = {
    f"__{name}__": _in_place(name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior")
}
"""``left += right`` and the like, as expressions, which a graph can hold."""

# Whose modules change their input only where their attribute ``inplace`` says so.
_TORCHS = ("torch.nn.", "torch.ao.nn.")
_KNOWN = (*_TORCHS, "timm.", "torchvision.", "zoo.")
_FRESH = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.Linear, FusedConv2d)
# Of PyTorch's modules those, and methods and functions by name, whose output may be a view.
_VIEWERS = (nn.Identity, nn.Flatten, nn.Unflatten, _DropoutNd)
_VIEWS = {
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "permute", "transpose",
    "t", "swapaxes", "movedim", "squeeze", "unsqueeze", "expand", "expand_as", "narrow", "select",
    "split", "chunk", "unbind", "getitem", "getattr", "contiguous", "to", "type_as", "float",
    "double", "detach", "dropout", "dropout2d",
}  # fmt: skip


def changed_by(node: fx.Node, module: nn.Module | None) -> list[fx.Node]:
    """The inputs of a node that it changes in place, or may.

    Args:
        module: what the node calls, if that is a module.
    """
    if module is not None:
        return node.all_input_nodes if _may_change_input(module) else []
    changed: list[fx.Node] = []
    if node.op in ("call_function", "call_method"):
        fx.node.map_arg(node.kwargs.get("out"), changed.append)
        if _works_in_place(node):
            fx.node.map_arg(node.args[0] if node.args else node.kwargs, changed.append)
    return changed


def may_be_view(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node's output may lie in the memory of its inputs."""
    if module is not None:
        return _may_return_input(module)
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return name in _VIEWS


def is_fresh(module: nn.Module | None) -> bool:
    """Whether a module is known to return memory of its own."""
    return isinstance(module, _FRESH) and _is_of(module, _KNOWN)


def is_sequence(module: nn.Module) -> bool:
    """Whether a module calls its parts one after the other, and does nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _works_in_place(node: fx.Node) -> bool:
    # Of functions such as relu(input, inplace), perhaps.
    if node.kwargs.get("inplace") is True or any(each is True for each in node.args[1:]):
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name in ("setitem", "__setitem__") or name in IN_PLACE:
        return True
    return name.endswith("_") and not name.endswith("__")


def _is_of(module: nn.Module, packages: tuple[str, ...]) -> bool:
    """Whether a module's forward was written in one of some packages."""
    written = getattr(type(module).forward, "__module__", None) or ""
    return written.startswith(packages) and "forward" not in module.__dict__


def _may_change_input(module: nn.Module) -> bool:
    if is_sequence(module):
        for part in module.children():
            if _may_change_input(part):
                return True
            if not _may_return_input(part):
                break  # what follows changes something else
        return False
    return not _is_of(module, _KNOWN) or getattr(module, "inplace", False) is True


def _may_return_input(module: nn.Module) -> bool:
    if is_sequence(module):
        return all(map(_may_return_input, module.children()))
    if is_fresh(module):
        return False
    return not _is_of(module, _TORCHS) or isinstance(module, _VIEWERS)
