"""A captured network with a plan for each size of its inputs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import zoo.compiler.deferred  # these four register how ops become steps
import zoo.compiler.native
import zoo.compiler.norms
import zoo.compiler.pointwise  # noqa: F401
from zoo.compiler.capture import Captured, CaptureError, described
from zoo.compiler.choices import Choices, Measured
from zoo.compiler.quiet import quiet
from zoo.compiler.stages import Stage, stages
from zoo.compiler.tuning import measure
from zoo.compiler.values import Step, Value
from zoo.errors import UsageError, ZooError
from zoo.ops import Precision
from zoo.ops._library import extension

MOST_PLANS = 16  # for as many sizes of inputs; the one that was not used longest makes room


class PlanError(ZooError):
    """There is no plan for this network, or for inputs of this kind."""


class ChangedWeightsError(UsageError):
    """A plan is to be made of weights that are not any more what the others were made of."""


@dataclass(frozen=True)
class Plan:
    """How a network runs for inputs of one kind: stages, each with what the one before returns."""

    captured: Captured
    stages: tuple[Stage, ...]

    def run(self, leaves: Sequence[Any]) -> Any:
        """What the module returns for these flattened inputs."""
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        for stage in self.stages:
            tensors = stage.run(tensors)
        computed = iter(tensors)
        outputs = self.stages[-1].lowering.outputs
        return self.captured.unflatten(
            next(computed) if isinstance(one, Value) else one for one in outputs
        )

    @property
    def steps(self) -> list[Step]:
        """Of all stages, in order."""
        return [step for stage in self.stages for step in stage.lowering.steps]

    @property
    def cases(self) -> list[str]:
        """What kind each convolution is, in words."""
        return [case for stage in self.stages for case in stage.lowering.cases.values()]

    @property
    def kernels(self) -> list[str]:
        """What computes each step."""
        return [kernel for stage in self.stages for kernel in stage.plan.kernels]


class Network:
    """Runs captured and rewritten graphs by plans, which are made as sizes of inputs occur.

    All plans share one set of packed weights. Callers may run at the same time.

    Args:
        captured: the graph, rewritten.
        precision: "exact" avoids Winograd's convolutions.
        recapture: makes the rewritten graph for positional and named inputs that ``captured`` does
            not accept, of another height and width say.
        choices: of kernels; those that were measured, or the fixed list's.
        unchanged: says whether the weights, which belong to the module, are still the same.
    """

    def __init__(
        self,
        captured: Captured,
        precision: Precision = "default",
        recapture: Callable[[tuple[Any, ...], dict[str, Any]], Captured] | None = None,
        choices: Choices | None = None,
        unchanged: Callable[[], bool] = lambda: True,
    ) -> None:
        self.captured = [captured]
        self.precision = precision
        self.weights = extension.PackedWeights()
        self.choices = choices or Choices()
        self._recapture = recapture
        self._unchanged = unchanged
        # That there is no plan is remembered too: it may have taken seconds to find out.
        self._plans: OrderedDict[Any, Plan | PlanError] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns for these inputs.

        Raises PlanError where no plan serves them, ChangedWeightsError where one would have to be
        made and the weights are not those of the other plans.
        """
        leaves = self.captured[0].flatten(args, kwargs)
        return self.plan(leaves).run(leaves)

    def winograd_layers(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """The graph's nodes that the plan for these inputs computes by Winograd's method."""
        plan = self.plan(self.captured[0].flatten(args, kwargs))
        return [
            step.node
            for step, kernel in zip(plan.steps, plan.kernels, strict=True)
            if kernel.startswith("winograd")
        ]

    def plan(self, leaves: list[Any]) -> Plan:
        """The plan for flattened inputs of these sizes and layouts."""
        key = (torch.get_num_threads(), *map(_signature, leaves))
        with self._lock:
            if key not in self._plans:
                try:
                    self._plans[key] = self._make(leaves)
                except PlanError as error:
                    self._plans[key] = error
                if len(self._plans) > MOST_PLANS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            found = self._plans[key]
        if isinstance(found, PlanError):
            raise PlanError(str(found))
        return found

    def inputs_of_last_plan(self) -> list[Any]:
        """Flattened inputs for the plan that was used last: noise (numbers, zeros) of its sizes."""
        with self._lock:
            keys = [key for key, plan in self._plans.items() if isinstance(plan, Plan)]
        if not keys:
            raise PlanError("nothing was run yet: give inputs, or call the module once")
        return [_noise(*part) for part in keys[-1][1:]]

    def check_weights(self) -> None:
        """Raise ChangedWeightsError where the module's weights have changed since."""
        if not self._unchanged():
            raise ChangedWeightsError(
                "the weights of the original have changed since zoo.optimize, and this needs those "
                "of then; optimize it again"
            )

    def _make(self, leaves: list[Any]) -> Plan:
        self.check_weights()
        captured = self._captured_for(leaves)
        options = (self.precision, self.weights, self.choices)
        try:
            with quiet():
                plan = Plan(captured, stages(captured, leaves, *options))
            if isinstance(self.choices, Measured) and not self.choices.know(plan.cases):
                measure(captured, leaves, self.precision, self.choices)
                plan = Plan(captured, stages(captured, leaves, *options))
            return plan
        except Exception as error:  # lowering asks PyTorch about any op, and graphs may be forged
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise PlanError(f"no plan: {reason}") from error

    def _captured_for(self, leaves: list[Any]) -> Captured:
        for captured in self.captured:
            if captured.accepts(leaves):
                return captured
        if self._recapture is None:
            sizes = ", ".join(described(x.dtype, x.shape) for x in leaves if isinstance(x, Tensor))
            known = " or ".join(", ".join(map(str, each.inputs)) for each in self.captured)
            raise PlanError(
                f"the graph was not captured for inputs of {sizes}, but of {known}; optimize the "
                "model with such an example, and save it again"
            )
        args, kwargs = pytree.tree_unflatten(leaves, self.captured[0].in_spec)
        try:
            captured = self._recapture(args, kwargs)
        except CaptureError as error:
            raise PlanError(str(error)) from error
        self.captured = [*self.captured[-MOST_PLANS + 1 :], captured]
        return captured


def _signature(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.dtype, leaf.shape, leaf.stride()
    return type(leaf), leaf


def _noise(kind: Any, *rest: Any) -> Any:
    """A leaf of this signature."""
    if not isinstance(kind, torch.dtype):
        return rest[0]
    shape, stride = rest
    # In memory of its own and then viewed: elements of an expanded tensor share theirs.
    extent = 1 + sum(max(n - 1, 0) * step for n, step in zip(shape, stride, strict=True))
    memory = torch.zeros(extent, dtype=kind)
    return (memory.normal_() if kind.is_floating_point else memory).as_strided(shape, stride)
