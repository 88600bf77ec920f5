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

ACTIVATIONS = (
    "none", "relu", "relu6", "sigmoid", "tanh", "silu", "gelu", "hardswish", "hardsigmoid",
    "leaky_relu",
)  # fmt: skip
