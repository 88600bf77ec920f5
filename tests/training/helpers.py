"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file


def weights(folder: Path, name: str = "last") -> dict[str, bytes]:
    """The tensors of a checkpoint of a run, bit for bit."""
    held = load_file(folder / f"{name}.safetensors")
    return {key: value.numpy().tobytes() for key, value in held.items()}
