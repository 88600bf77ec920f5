"""Who runs whole networks: ours, PyTorch's ways, and the engines that plugins bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata

from zoo import backends
from zoo.benchmark.names import NETWORK_OURS, NETWORK_RIVALS
from zoo.specs import Backend

_TARGETS = {
    "zoo": "zoo.compiler:prepare",
    "zoo-exact": "zoo.compiler:prepare_exact",
    "eager": "zoo.backends.pytorch:plain",
    "eager-nhwc": "zoo.backends.pytorch:eager",
    "inductor": "zoo.backends.pytorch:inductor",
    "aotinductor": "zoo.backends.pytorch:aotinductor",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run a network.

    Attributes:
        name: how results call it.
        target: of the function ``prepare`` of a backend.
        builtin: whether PyTorch brings it.
        engine: whether a plugin brings it.
        processes: how many run side by side, each with a batch of its own and one thread.
    """

    name: str
    target: str
    builtin: bool = False
    engine: bool = False
    processes: int = 1


def engines() -> dict[str, Backend]:
    """The backends that the core does not bring, by name, and that are installed."""
    own = _TARGETS.values()
    return {name: spec for name, spec in backends.usable().items() if spec.prepare not in own}


def choose(rivals: Sequence[str]) -> list[Candidate]:
    """Ours and the named rivals, which are keys of ``NETWORK_RIVALS`` or of :func:`engines`."""
    chosen = [Candidate(name, _TARGETS[name]) for name in NETWORK_OURS]
    chosen += [
        Candidate(name, _TARGETS[name], builtin=True) for name in NETWORK_RIVALS if name in rivals
    ]
    return chosen + [
        Candidate(name, spec.prepare, engine=True)
        for name, spec in engines().items()
        if name in rivals
    ]


def side_by_side(candidates: Sequence[Candidate], processes: int) -> list[Candidate]:
    """Each candidate as so many processes with one thread each."""
    return [
        replace(candidate, name=f"{candidate.name} x{processes}", processes=processes)
        for candidate in candidates
    ]


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of what these engines require, where a distribution has the module's name."""
    found = {}
    for name, spec in engines().items():
        for module in spec.requires if name in names else ():
            try:
                found[module] = metadata.version(module)
            except metadata.PackageNotFoundError:
                continue
    return found
