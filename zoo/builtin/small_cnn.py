"""The convolutional network with which Keras' tutorials begin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import zoo


class SmallCNN(nn.Module):
    """Two valid 3x3 convolutions (32 and 64 channels), a 2x2 max-pool between, one dense layer.

    Weights start as Keras starts them: Glorot's uniform distribution, biases zero.

    Args:
        num_classes: outputs; 0 leaves out the dense layer, so that the model returns features.
        in_chans: channels of the images.
        img_size: height and width of the images, at least 8; the dense layer is sized from it.

    Raises:
        zoo.UsageError: the images are too small for the layers.
    """

    def __init__(
        self, *, num_classes: int = 10, in_chans: int = 3, img_size: int | tuple[int, int] = 32
    ) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if min(height, width) < 8:
            raise zoo.UsageError(
                f"small_cnn needs images of at least 8x8, img_size is {height}x{width}"
            )
        self.conv1 = nn.Conv2d(in_chans, 32, 3)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.relu = nn.ReLU()
        self.num_features = 64 * ((height - 2) // 2 - 2) * ((width - 2) // 2 - 2)
        for conv in (self.conv1, self.conv2):
            _init_as_keras(conv)
        self.reset_classifier(num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Say in timm's way which parameters belong to which layer, for layer-wise decay."""
        return {"stem": "^conv1", "blocks": "^conv2"}

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the dense layer by a new one with ``num_classes`` outputs (0: by none)."""
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Identity()
        if num_classes > 0:
            self.fc = nn.Linear(self.num_features, num_classes)
            _init_as_keras(self.fc)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_chans, H, W)`` to ``(N, 64, H', W')``, H' = (H - 2) // 2 - 2."""
        x = self.pool(self.relu(self.conv1(x)))
        return self.relu(self.conv2(x))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map features to logits ``(N, num_classes)``, or to ``(N, num_features)``."""
        x = torch.flatten(x, 1)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_chans, H, W)`` to logits ``(N, num_classes)``."""
        return self.forward_head(self.forward_features(x))


def _init_as_keras(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
