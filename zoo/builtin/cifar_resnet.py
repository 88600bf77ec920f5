"""The CIFAR ResNets of He et al., "Deep Residual Learning", 2015, section 4.2.

A 3x3 convolution, three stages of n blocks with 16, 32 and 64 channels, global average
pooling and a dense layer: depth 6n + 2. Shortcuts have no parameters (the paper's option A):
where a stage halves the size and doubles the channels, every second pixel is taken and the
new channels are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, and the shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.stride = stride
        self.new_channels = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, channels, H / stride, W / stride)``."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """A ResNet for small images; see the module's docstring.

    Args:
        depth: number of layers with weights, 6n + 2: 20, 32, 44, 56, 110.
        num_classes: outputs; 0 leaves out the dense layer, so that the model returns features.
        in_chans: channels of the images.

    Raises:
        zoo.UsageError: the depth is not 6n + 2.
    """

    num_features = 64

    def __init__(self, depth: int, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise zoo.UsageError(f"depth must be 6n + 2, e.g. 20 or 56, not {depth}")
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(blocks, 16, 16, stride=1)
        self.layer2 = _stage(blocks, 16, 32, stride=2)
        self.layer3 = _stage(blocks, 32, 64, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the dense layer by a new one with ``num_classes`` outputs (0: by none)."""
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Identity()
        if num_classes > 0:
            self.fc = nn.Linear(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_chans, H, W)`` to ``(N, 64, H / 4, W / 4)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map features to logits ``(N, num_classes)``, or to ``(N, num_features)``."""
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_chans, H, W)`` to logits ``(N, num_classes)``."""
        return self.forward_head(self.forward_features(x))


def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def create(
    *, depth: int, num_classes: int, in_chans: int, img_size: int | tuple[int, int] = 32
) -> CifarResNet:
    """Build a ResNet. Pooling makes it independent of ``img_size``, which may be anything."""
    return CifarResNet(depth, num_classes=num_classes, in_chans=in_chans)
