"""A network with weights, an input and the right output, made once and shared by file."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.data.images import open_image
from zoo.data.transforms import EvalTransform
from zoo.errors import UsageError, ZooError


@dataclass(frozen=True)
class Network:
    """A network with its data.

    Attributes:
        module: in eval mode, float32.
        input: a batch of images, (N, C, H, W).
        expected: what the module gives in float64, rounded to float32.
        flops: floating-point operations of one batch, two for each multiply-add.
    """

    module: nn.Module
    input: Tensor
    expected: Tensor
    flops: int

    @classmethod
    def make(cls, name: str, batch: int, image_size: int | None, seed: int = 0) -> Network:
        """Build a model with random weights that behave like trained ones.

        Raises:
            UsageError: it does not say what size its images have, and no size is given.
            ZooError: it does not return a tensor, or cannot take images of that size.
        """
        torch.manual_seed(seed)
        module = zoo.create_model(name).eval()
        size = _input_size(name, module, image_size)
        input = torch.randn(batch, *size)
        try:
            with torch.no_grad():
                settle(module, torch.randn(4, *size))
                return cls._with_output(module, input)
        except (RuntimeError, TypeError, AssertionError) as error:
            shape = "x".join(map(str, size))
            raise ZooError(f"{name} does not run on images of {shape}: {error}") from error

    @classmethod
    def of_photo(cls, name: str, path: str) -> Network:
        """Build a pretrained model, and prepare an image file as its weights ask for.

        Raises:
            ZooError: from the name, the weights or their preprocessing.
            ImageError: the file cannot be read.
        """
        module = zoo.create_model(name, pretrained=True).eval()
        transform = EvalTransform.from_config(_config(module))
        image = transform(open_image(path, transform.channels))
        with torch.no_grad():
            return cls._with_output(module, image[None])

    @classmethod
    def _with_output(cls, module: nn.Module, input: Tensor) -> Network:
        with FlopCounterMode(display=False) as counter:
            module(input)
        exact = copy.deepcopy(module).double()
        # Image by image: PyTorch's float64 convolution unfolds its whole input.
        expected = torch.cat([exact(image.double()) for image in torch.split(input, 1)])
        return cls(module, input, expected.float(), counter.get_total_flops())

    @property
    def labels(self) -> str | None:
        """Target of the class names, if the weights name one."""
        return _config(self.module).get("labels")

    def write(self, file: IO[bytes]) -> None:
        """Write everything but the code."""
        tensors = {"input": self.input, "expected": self.expected}
        torch.save({"state": self.module.state_dict(), **tensors, "flops": self.flops}, file)
        file.flush()

    @classmethod
    def read(cls, name: str, file: IO[bytes]) -> Network:
        """Build the model anew, with the weights of a file."""
        file.seek(0)
        found = torch.load(file, weights_only=True)
        module = zoo.create_model(name).eval()
        module.load_state_dict(found["state"])
        return cls(module, found["input"], found["expected"], found["flops"])


def best(output: Tensor, count: int = 5) -> list[tuple[int, float]]:
    """The most probable classes of the first image, best first, with their probabilities."""
    probabilities = output[0].softmax(0)
    values, classes = probabilities.topk(min(count, len(probabilities)))
    return list(zip(classes.tolist(), values.tolist(), strict=True))


def _config(module: nn.Module) -> dict[str, Any]:
    return getattr(module, "pretrained_cfg", None) or {}


def _input_size(name: str, module: nn.Module, side: int | None) -> tuple[int, ...]:
    size = _config(module).get("input_size")
    if size is not None:
        return (size[0], side, side) if side else tuple(size)
    if side is None:
        raise UsageError(f"{name} does not say how large its images are: add --image-size N")
    return 3, side, side


@torch.no_grad()
def settle(module: nn.Module, images: Tensor) -> None:
    """Give gains, shifts and statistics of norms the spread of trained ones, in eval mode.

    As they are initialised, shifts are zero, the last gain of a residual branch often too, and the
    statistics are not those of any data: signals would die out or grow, and much of the network
    would not show in its output.
    """
    for name, parameter in module.named_parameters():
        if parameter.dim() == 1 and bool((parameter == parameter[0]).all()):
            if name.endswith("bias"):
                nn.init.normal_(parameter, 0, 0.1)
            else:
                nn.init.uniform_(parameter, 0.5, 1.5)
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches, of which there is one
        norm.train()
    module(images)
    for norm in norms:
        norm.eval()
