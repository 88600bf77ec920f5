"""Random weights under which a wrong rewriting shows."""

from __future__ import annotations

from torch import nn


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
