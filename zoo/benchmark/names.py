"""Names that the command line needs, without torch.

The candidates stand in the order of the tables; ``candidates.py`` says how each does its work.
"""

OURS = {
    "zoo": "zoo.ops on NCHW tensors",
    "zoo-nhwc": "zoo.ops on channels_last tensors",
    "zoo-packed": "zoo.ops on a prepacked weight and channels_last input, as networks use it",
    "zoo-exact": 'the same with precision="exact", where the default is Winograd\'s method',
}

RIVALS = {
    "eager": "PyTorch's functions on NCHW tensors",
    "eager-nhwc": "PyTorch's functions on channels_last tensors",
    "inductor": "torch.compile with frozen parameters, channels_last",
    "onednn": "oneDNN with a prepacked weight and fused activation (pools: its own layout)",
    "nnpack": "NNPACK's Winograd: 3x3 convolutions with stride 1",
}

CUDA_OURS = {
    "zoo": OURS["zoo"],
    "zoo-nhwc": OURS["zoo-nhwc"],
    "zoo-exact": 'the same with precision="exact": a kernel of zoo\'s own wherever there is one',
}

CUDA_RIVALS = {
    "eager": "PyTorch's functions on NCHW tensors, cuDNN's quickest algorithm",
    "eager-nhwc": "PyTorch's functions on channels_last tensors, cuDNN's quickest algorithm",
    "inductor": 'torch.compile(mode="max-autotune"), channels_last: a CUDA graph',
}
"""With --device cuda, where the others do not run."""

NETWORK_OURS = {
    "zoo": "what zoo.optimize makes of it",
    "zoo-exact": 'the same with precision="exact"',
}

NETWORK_RIVALS = {
    "eager": "PyTorch as it is, NCHW",
    "eager-nhwc": "PyTorch in channels_last",
    "inductor": "torch.compile, channels_last, parameters frozen or not: what is faster",
    "aotinductor": "torch.export and AOTInductor with frozen parameters, channels_last",
}
"""For whole networks; the other backends of ``zoo list-backends`` are their engines."""


def plain_name(candidate: str) -> str:
    """The name without how many processes there are: of ``"zoo x2"`` it is ``zoo``."""
    return candidate.partition(" ")[0]


ENGINES = {
    "openvino": "OpenVINO on NCHW tensors",
    "openvino-nhwc": "OpenVINO on NHWC tensors",
    "onnxruntime": "ONNX Runtime, NCHW",
    "ncnn": "ncnn in its own packed layout",
    "mnn": "MNN in its own packed layout",
    "mnn-exact": "the same with the smallest Winograd tiles, which keep float32's precision",
}
"""Engines that are no part of PyTorch; ``engines`` says what each needs installed."""

ACTIVATIONS = (
    "none", "relu", "relu6", "sigmoid", "tanh", "silu", "gelu", "hardswish", "hardsigmoid",
    "leaky_relu",
)  # fmt: skip
