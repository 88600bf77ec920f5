"""Prepares a module for ncnn: torch.onnx, then pnnx, its converter."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
import pnnx
import torch
from torch import Tensor, nn

from zoo.backends import Run
from zoo.backends.onnx import Array, Exported, export
from zoo.errors import ZooError


def prepare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """A network for one image, called for each of a batch: ncnn knows no batches.

    Raises:
        ZooError: more than one input or output, or pnnx leaves an op for which ncnn has no layer.
    """
    if kwargs or len(args) != 1 or not isinstance(args[0], Tensor) or args[0].dim() != 4:
        raise ZooError("ncnn takes a batch of images, and nothing beside it")
    exported = export(module, (args[0][:1],), {})
    if len(exported.outputs) != 1:
        raise ZooError(f"ncnn returns one tensor, the network {len(exported.outputs)}")
    network = _convert(exported, tuple(args[0][:1].shape))
    source, target = network.input_names()[0], network.output_names()[0]
    shape = exported.output_shapes[0]

    def one(image: Array) -> Array:
        extractor = network.create_extractor()
        extractor.input(source, ncnn.Mat(image))
        failed, output = extractor.extract(target)
        if failed:
            raise ZooError(f"ncnn failed with code {failed}")
        return np.array(output).reshape(shape)

    single = exported.bind(lambda arrays: [one(arrays[0][0])])
    return lambda images: torch.cat([single(image) for image in images.split(1)])


def _convert(exported: Exported, shape: tuple[int, ...]) -> ncnn.Net:
    network = ncnn.Net()
    network.opt.num_threads = torch.get_num_threads()
    for name in dir(network.opt):
        if name.startswith(("use_fp16", "use_bf16")):
            setattr(network.opt, name, False)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "network.onnx")
        source.write_bytes(exported.model)
        size = ",".join(map(str, shape))
        done = subprocess.run(
            [pnnx.EXEC_PATH, str(source), f"inputshape=[{size}]", "fp16=0"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        text = Path(folder, "network.ncnn.param")
        if done.returncode or not text.exists():
            raise ZooError(f"pnnx ended with code {done.returncode} and made no network")
        # What pnnx could not translate keeps its name of PyTorch's or of pnnx's.
        foreign = [line.split()[0] for line in text.read_text().splitlines()[2:]]
        foreign = [name for name in foreign if "." in name or "::" in name]
        if foreign:
            raise ZooError(f"ncnn has no layer for {', '.join(sorted(set(foreign)))}")
        if network.load_param(str(text)) or network.load_model(str(text.with_suffix(".bin"))):
            raise ZooError("ncnn lacks a layer of the network; its messages on stderr name it")
    return network
