"""ncnn (BSD-3-Clause). Its two model files are written here: text and raw weights.

Layers and their parameter numbers: ncnn's docs/developer-guide/operators.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import ncnn
import numpy as np

from zoo.benchmark.engines.task import Array, Loaded, Task

# zoo's activation -> what a convolution does itself: its type and its parameters
_FUSED: dict[str, tuple[int, tuple[float, ...]]] = {
    "none": (0, ()),
    "relu": (1, ()),
    "leaky_relu": (2, (0.01,)),
    "relu6": (3, (0.0, 6.0)),
    "sigmoid": (4, ()),
    "hardswish": (6, (1 / 6, 0.5)),
}
# and the rest, as layers of their own
_LAYERS = {
    "tanh": "TanH",
    "silu": "Swish",
    "gelu": "GELU",
    "hardsigmoid": f"HardSigmoid 0={1 / 6:.9g} 1=0.5",
}


def _convolution(task: Task) -> str:
    case = task.case
    values: dict[int, object] = {
        0: case.out_channels,
        1: case.kernel,
        3: case.stride,
        4: case.padding,
        5: 1,  # there is a bias
        6: task.weight.size,
    }
    kind = "Convolution"
    if case.groups > 1:
        kind, values[7] = "ConvolutionDepthWise", case.groups
    number, parameters = _FUSED.get(task.activation, (0, ()))
    values[9] = number
    if parameters:  # an array: its number counted down from -23300, its length first
        values[-23310] = ",".join([str(len(parameters)), *(f"{value:.9g}" for value in parameters)])
    return " ".join([kind, *(f"{key}={value}" for key, value in values.items())])


def _pool(kind: str, kernel: int, stride: int, padding: int) -> str:
    # 5=1: windows that would pass the edge are left out; 6=1: padding counts in averages.
    number = ("max", "avg").index(kind)
    return f"Pooling 0={number} 1={kernel} 2={stride} 3={padding} 5=1 6=1"


def param_text(task: Task) -> str:
    """Return the network in ncnn's text form; its ends are ``blob0`` and the last blob."""
    layers = ["Input"]
    if task.convolves:
        layers.append(_convolution(task))
        if task.activation in _LAYERS:
            layers.append(_LAYERS[task.activation])
    if task.pool:
        layers.append(_pool(*task.pool))
    lines = ["7767517", f"{len(layers)} {len(layers)}"]
    for number, layer in enumerate(layers):
        kind, _, values = layer.partition(" ")
        blobs = f"1 1 blob{number - 1} blob{number}" if number else "0 1 blob0"
        lines.append(f"{kind} layer{number} {blobs} {values}".rstrip())
    return "\n".join(lines) + "\n"


def _network(task: Task) -> ncnn.Net:
    network = ncnn.Net()
    options = network.opt
    options.num_threads = task.threads
    for name in dir(options):
        if name.startswith(("use_fp16", "use_bf16")):
            setattr(options, name, False)
    network.load_param_mem(param_text(task))
    # A tag of four zero bytes says that the weight is float32. Pools read nothing.
    data = bytes(4) + task.weight.tobytes() + task.bias.tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.bin")
        path.write_bytes(data)
        network.load_model(str(path))
    return network


def _packed(image: Array) -> ncnn.Mat:
    """Copy an image into the layout that ncnn's layers hand on to each other."""
    plain = ncnn.Mat(np.ascontiguousarray(image)).clone()
    width = next(size for size in (16, 8, 4, 1) if image.shape[0] % size == 0)
    return ncnn.convert_packing(plain, width)


def load(task: Task) -> Loaded:
    """Compile for one image, called for each of a batch, in and out of its packed layout."""
    network, images = _network(task), [_packed(image) for image in task.input]
    last = network.output_names()[0]

    def compute(image: ncnn.Mat) -> ncnn.Mat:
        extractor = network.create_extractor()
        extractor.input("blob0", image)
        return extractor.extract(last, 1)[1]  # 1: as it is, not unpacked

    def read(outputs: list[ncnn.Mat]) -> Array:
        return np.stack([np.array(ncnn.convert_packing(output, 1)) for output in outputs])

    return Loaded(lambda: [compute(image) for image in images], read)
