"""What a run was made with: the contents of ``run.json``."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

import torch

from zoo._version import __version__
from zoo.benchmark.machine import describe_machine
from zoo.distributions import versions
from zoo.registry import get_registry
from zoo.training.data import Data

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "safetensors")


def package_versions() -> dict[str, str]:
    """The versions of what computes."""
    found = {"zoo": __version__, "python": platform.python_version(), **versions(_PACKAGES)}
    return {name: version for name, version in found.items() if version is not None}


def describe_session(processes: int, device: torch.device) -> dict[str, Any]:
    """When, by which command, with which versions and on what a process trains."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["zoo", *sys.argv[1:]]),
        "versions": package_versions(),
        "plugins": {
            plugin.name: plugin.version
            for plugin in get_registry().plugins
            if plugin.state == "active"
        },
        "hardware": {
            **describe_machine(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "processes": processes,
        },
    }


def describe_run(seed: int, data: Data, processes: int, device: torch.device) -> dict[str, Any]:
    """What ``run.json`` holds."""
    return {
        "seed": seed,
        "data": {
            "fingerprints": data.fingerprints(),
            "images": {"train": len(data.train), "evaluation": len(data.evaluation)},
            "evaluated_on": data.split,
            "classes": list(data.classes),
        },
        **describe_session(processes, device),
    }
