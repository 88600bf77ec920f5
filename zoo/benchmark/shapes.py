"""The cases of a benchmark: how a shape is written, and the layers of well-known networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zoo.errors import UsageError

CONV_OPS = ("conv2d", "conv2d_pool")
WEIGHTED_OPS = (*CONV_OPS, "linear")
"""Ops with a weight, a bias and an activation."""
WINDOW_OPS = (*CONV_OPS, "max_pool2d", "avg_pool2d")
"""Ops with a kernel size, a stride and a padding."""
POOL_OPS = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")
OPS = WEIGHTED_OPS + POOL_OPS

POOLS = {"max2": ("max", 2, 2, 0), "avg2": ("avg", 2, 2, 0), "max3s2": ("max", 3, 2, 1)}
"""Pools that follow a convolution: name -> (kind, kernel, stride, padding)."""

_CONV_FORM = "N,C,H,W,O,K,S,P[,G]"
_FORMS = {
    "conv2d": _CONV_FORM,
    "conv2d_pool": f"{_CONV_FORM}[+max2|+avg2|+max3s2]",
    "linear": "N,C,O",
    "max_pool2d": "N,C,H,W,K,S,P",
    "avg_pool2d": "N,C,H,W,K,S,P",
    "adaptive_avg_pool2d": "N,C,H,W,R",
}

_LIMIT = 2**31


@dataclass(frozen=True, slots=True)
class Case:
    """One op on one shape; a linear layer is one on maps of one pixel.

    Kernels are square; stride and padding are the same both ways.

    ``result``, the side of the square that comes out, matters to adaptive_avg_pool2d alone, which
    has neither kernel nor stride nor padding; ``out_channels`` and ``groups`` matter to
    convolutions alone (the former also to linear), ``pool`` (a key of :data:`POOLS`) to
    conv2d_pool alone.
    """

    op: str
    batch: int
    channels: int
    height: int = 1
    width: int = 1
    kernel: int = 0
    stride: int = 0
    padding: int = 0
    result: int = 0
    out_channels: int = 0
    groups: int = 1
    pool: str | None = None

    def __str__(self) -> str:
        """Write the case as ``--shape`` takes it."""
        if self.op == "linear":
            return f"{self.batch},{self.channels},{self.out_channels}"
        sizes = [self.batch, self.channels, self.height, self.width]
        if self.op in CONV_OPS:
            sizes.append(self.out_channels)
        window = self.op in WINDOW_OPS
        sizes += [self.kernel, self.stride, self.padding] if window else [self.result]
        if self.groups != 1:
            sizes.append(self.groups)
        return ",".join(map(str, sizes)) + (f"+{self.pool}" if self.pool else "")

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the result, before the pool of conv2d_pool."""
        if self.op not in WINDOW_OPS:
            return self.result, self.result
        return _window(self.height, self.width, self.kernel, self.stride, self.padding)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        shape = self.batch, self.channels, self.height, self.width
        return shape[:2] if self.op == "linear" else shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        if self.op == "linear":
            return self.batch, self.out_channels
        height, width = self.map_size
        if self.pool:
            height, width = _window(height, width, *POOLS[self.pool][1:])
        return self.batch, self.out_channels or self.channels, height, width

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight: (out, in / groups, height, width), of linear (out, in)."""
        if self.op == "linear":
            return self.out_channels, self.channels
        return self.out_channels, self.channels // self.groups, self.kernel, self.kernel

    @property
    def flops(self) -> int:
        """Floating-point operations: two per multiply-add of the direct convolution, whatever
        the algorithm; for pools one per element of each window.
        """
        if self.op == "linear":
            return 2 * self.batch * self.channels * self.out_channels
        height, width = self.map_size
        places = self.batch * (self.out_channels or self.channels) * height * width
        if self.op not in WINDOW_OPS:
            rows, columns = _taps(self.height, height), _taps(self.width, width)
            return self.batch * self.channels * rows * columns
        if self.op in POOL_OPS:
            return places * self.kernel**2
        return 2 * places * self.channels // self.groups * self.kernel**2


def _window(height: int, width: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    return (
        (height + 2 * padding - kernel) // stride + 1,
        (width + 2 * padding - kernel) // stride + 1,
    )


def _taps(size: int, result: int) -> int:
    """Rows (or columns) that the windows of an adaptive pool see, all of them together."""
    return sum(-((y + 1) * size // -result) - y * size // result for y in range(result))


def parse_case(op: str, text: str, option: str = "--shape") -> Case:
    """Read a case, given as that option. Raises UsageError that says what is wrong with it."""
    where = f"{option} {text}"
    numbers, plus, pool = text.partition("+")
    if plus and (op != "conv2d_pool" or pool not in POOLS):
        raise UsageError(f"{where}: {op} takes {_FORMS[op]}")
    try:
        sizes = [int(part) for part in numbers.split(",")]
    except ValueError:
        raise UsageError(f"{where}: expected whole numbers {_FORMS[op]}") from None
    expected = (8, 9) if op in CONV_OPS else (_FORMS[op].count(",") + 1,)
    if len(sizes) not in expected:
        raise UsageError(f"{where}: {len(sizes)} numbers, but {op} takes {_FORMS[op]}")
    if op in CONV_OPS:
        batch, channels, height, width, out_channels, kernel, stride, padding, *rest = sizes
        case = Case(
            op, batch, channels, height, width, kernel, stride, padding,
            out_channels=out_channels,
            groups=rest[0] if rest else 1,
            pool=(pool or "max2") if op == "conv2d_pool" else None,
        )  # fmt: skip
    elif op == "linear":
        batch, channels, out_channels = sizes
        case = Case(op, batch, channels, out_channels=out_channels)
    elif op not in WINDOW_OPS:
        batch, channels, height, width, result = sizes
        case = Case(op, batch, channels, height, width, result=result)
    else:
        batch, channels, height, width, kernel, stride, padding = sizes
        case = Case(op, batch, channels, height, width, kernel, stride, padding)
    problem = _problem(case) if max(sizes) < _LIMIT else "numbers must be below 2**31"
    if problem:
        raise UsageError(f"{where}: {problem}")
    return case


def _problem(case: Case) -> str | None:
    if case.op not in WINDOW_OPS:
        last = case.out_channels if case.op == "linear" else case.result
        least = min(case.batch, case.channels, case.height, case.width, last)
        return None if least >= 1 else "sizes must be at least 1"
    conv = case.op in CONV_OPS
    positive = [case.batch, case.channels, case.height, case.width, case.kernel, case.stride]
    if min(positive) < 1 or case.groups < 1 or (conv and case.out_channels < 1):
        return "sizes, kernel, stride and groups must be at least 1"
    if case.padding < 0:
        return "the padding must not be negative"
    if not conv and case.padding > case.kernel // 2:
        return "a pool's padding must be at most half its kernel"
    if conv and (case.channels % case.groups or case.out_channels % case.groups):
        return f"{case.groups} groups must divide the channels in and out"
    if (
        min(case.height, case.width) + 2 * case.padding < case.kernel
        or min(case.output_shape[2:]) < 1
    ):
        return "the output would be empty"
    return None


# Layers at batch 1, each shape once. "dw" marks depthwise convolutions.
_RESNET = """
    1,3,224,224,64,7,2,3   1,64,56,56,64,3,1,1    1,128,28,28,128,3,1,1  1,256,14,14,256,3,1,1
    1,512,7,7,512,3,1,1    1,64,56,56,128,3,2,1   1,128,28,28,256,3,2,1  1,256,14,14,512,3,2,1
    1,64,56,56,256,1,1,0   1,256,56,56,64,1,1,0   1,256,56,56,512,1,2,0  1,128,28,28,512,1,1,0
    1,512,28,28,128,1,1,0  1,256,14,14,1024,1,1,0 1,1024,14,14,256,1,1,0 1,512,7,7,2048,1,1,0
    1,2048,7,7,512,1,1,0
"""  # ResNet-18 and ResNet-50, He et al. 2015
_VGG = """
    1,3,224,224,64,3,1,1   1,64,224,224,64,3,1,1  1,64,112,112,128,3,1,1 1,128,112,112,128,3,1,1
    1,128,56,56,256,3,1,1  1,256,56,56,256,3,1,1  1,256,28,28,512,3,1,1  1,512,28,28,512,3,1,1
    1,512,14,14,512,3,1,1
"""  # VGG-16, Simonyan and Zisserman 2014
_MOBILENET = """
    1,3,224,224,16,3,2,1     1,16,112,112,16,3,1,1,16 1,16,112,112,64,1,1,0
    1,64,112,112,64,3,2,1,64 1,72,56,56,72,3,1,1,72   1,72,56,56,72,5,2,2,72
    1,72,28,28,40,1,1,0      1,120,28,28,120,5,1,2,120 1,40,28,28,240,1,1,0
    1,240,28,28,240,3,2,1,240 1,184,14,14,184,3,1,1,184 1,80,14,14,480,1,1,0
    1,672,14,14,672,5,1,2,672 1,672,14,14,672,5,2,2,672 1,960,7,7,960,5,1,2,960
    1,160,7,7,960,1,1,0      1,960,7,7,160,1,1,0
"""  # MobileNetV3-Large, Howard et al. 2019
_DEPTHWISE = """
    1,32,112,112,32,3,1,1,32  1,96,112,112,96,3,2,1,96  1,144,56,56,144,3,1,1,144
    1,512,14,14,512,3,1,1,512 1,240,28,28,240,5,1,2,240 1,480,14,14,480,5,1,2,480
    1,96,56,56,96,7,1,3,96    1,192,28,28,192,7,1,3,192 1,384,14,14,384,7,1,3,384
    1,768,7,7,768,7,1,3,768   1,96,56,56,96,7,2,3,96
"""  # of MobileNet V1 and V2, EfficientNet-B0 and ConvNeXt-T, and one 7x7 with stride 2
_RESNEXT = """
    1,128,56,56,128,3,1,1,32  1,256,56,56,256,3,2,1,32   1,256,28,28,256,3,1,1,32
    1,512,28,28,512,3,2,1,32  1,512,14,14,512,3,1,1,32   1,1024,7,7,1024,3,1,1,32
    1,64,28,28,64,3,1,1,4     1,160,14,14,160,3,1,1,10   1,400,7,7,400,3,1,1,25
"""  # ResNeXt-50 32x4d, Xie et al. 2016, and RegNetX-400MF, Radosavovic et al. 2020
_CIFAR = """
    1,3,32,32,32,3,1,0   1,32,15,15,64,3,1,0
    1,3,32,32,16,3,1,1   1,16,32,32,16,3,1,1   1,16,32,32,32,3,2,1   1,32,16,16,32,3,1,1
    1,32,16,16,64,3,2,1  1,64,8,8,64,3,1,1
"""  # the Keras tutorial's small CNN, then ResNet-20 (He et al. 2015, section 4.2)
_VIT = """
    1,3,224,224,768,16,16,0  1,3,224,224,192,16,16,0  1,3,224,224,96,4,4,0
"""  # patches of ViT-B/16 and DeiT-Ti (Dosovitskiy et al. 2020), of Swin-T and ConvNeXt-T

SETS: dict[str, dict[str, str]] = {
    "conv2d": {
        "resnet": _RESNET,
        "vgg": _VGG,
        "mobilenet": _MOBILENET,
        "depthwise": _DEPTHWISE,
        "resnext": _RESNEXT,
        "cifar": _CIFAR,
        "vit": _VIT,
    },
    "conv2d_pool": {
        "resnet": "1,3,224,224,64,7,2,3+max3s2",
        "vgg": """
            1,64,224,224,64,3,1,1+max2   1,128,112,112,128,3,1,1+max2 1,256,56,56,256,3,1,1+max2
            1,512,28,28,512,3,1,1+max2   1,512,14,14,512,3,1,1+max2
        """,
        "cifar": "1,3,32,32,32,3,1,0+max2 1,32,15,15,64,3,1,0+max2",
    },
    "linear": {
        "resnet": "1,512,1000 1,2048,1000",
        "vgg": "1,4096,4096 1,4096,1000",
        "mobilenet": "1,960,1280 1,1280,1000",
        "cifar": "1,64,10",
    },
    "max_pool2d": {
        "resnet": "1,64,112,112,3,2,1",
        "vgg": """
            1,64,224,224,2,2,0  1,128,112,112,2,2,0  1,256,56,56,2,2,0  1,512,28,28,2,2,0
            1,512,14,14,2,2,0
        """,
        "cifar": "1,32,30,30,2,2,0",
    },
    "avg_pool2d": {
        "resnet": """
            1,256,56,56,2,2,0  1,512,28,28,2,2,0  1,1024,14,14,2,2,0  1,2048,7,7,7,1,0
        """,  # the shortcuts of ResNet-D (He et al. 2018), and the global pool
        "mobilenet": "1,960,7,7,7,1,0",
        "cifar": "1,64,8,8,8,1,0",
    },
    "adaptive_avg_pool2d": {
        "resnet": "1,512,7,7,1  1,2048,7,7,1",
        "vgg": "1,512,7,7,7  1,512,10,10,7  1,512,14,14,7",  # what 224, 320 and 448 pixels leave
        "mobilenet": """
            1,16,112,112,1  1,72,28,28,1  1,120,28,28,1  1,480,14,14,1  1,672,14,14,1
            1,960,7,7,1
        """,  # squeeze-and-excitation of MobileNetV3, small and large, and the global pool
        "cifar": "1,64,8,8,1",
    },
}
"""op -> set name -> its cases, as ``--shape`` takes them, at batch 1."""

SET_NAMES = ("resnet", "vgg", "mobilenet", "depthwise", "resnext", "cifar", "vit")


def cases_of_set(op: str, name: str, batches: Sequence[int] = (1,)) -> list[Case]:
    """Return the cases of a named set (``all``: of every set), for each batch size."""
    sets = SETS[op]
    if name != "all" and name not in sets:
        raise UsageError(f"--set {name} has no {op} cases; sets for it: {', '.join(sets)}, all")
    names = SET_NAMES if name == "all" else (name,)
    cases = [parse_case(op, text) for key in names for text in sets.get(key, "").split()]
    return [replace(case, batch=batch) for batch in batches for case in dict.fromkeys(cases)]
