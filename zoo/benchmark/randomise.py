"""Random weights under which a wrong rewriting shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def randomise(module: nn.Module) -> nn.Module:
    """Draw statistics, scales and shifts of every BatchNorm at random; the module in eval mode.

    Freshly made ones compute the identity, so that leaving them out, or the wrong one, would go
    unnoticed.
    """
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is not None:
            assert child.running_var is not None
            nn.init.normal_(child.running_mean, 0, 0.3)
            nn.init.uniform_(child.running_var, 0.5, 2)
            if child.affine:
                nn.init.uniform_(child.weight, 0.5, 1.5)
                nn.init.normal_(child.bias, 0, 0.3)
    return module.eval()


@torch.no_grad()
def calibrate(module: nn.Module, images: Tensor) -> None:
    """Set every BatchNorm's statistics to those of a batch of images (N, C, H, W); N at least 2.

    With statistics that do not fit, the values of a deep network grow from layer to layer, and
    rounding errors with them, until no two ways to compute it agree.
    """
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    module.train()
    module(images)
    module.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
