"""Losses that torch does not have in the form that classification needs."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class MSELoss(nn.Module):
    """Mean squared error between the logits themselves and the target probabilities.

    No softmax comes in between: this is the square loss with which Hui and Belkin, "Evaluation
    of neural architectures trained with square loss vs cross-entropy" (2020), trained
    classifiers. The mean is taken over samples and classes.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(N, num_classes)``, a scalar.

        Args:
            logits: ``(N, num_classes)``, floating point.
            target: class indices ``(N,)`` int64, or probabilities or 0/1 labels
                ``(N, num_classes)``.

        Raises:
            ValueError: the target has another shape than these.
        """
        if target.ndim == 1 and not target.is_floating_point():
            target = F.one_hot(target, logits.shape[-1])
        if target.shape != logits.shape:
            raise ValueError(
                f"mse: target of shape {tuple(target.shape)} does not fit logits of shape "
                f"{tuple(logits.shape)}; give class indices (N,) or one value per logit"
            )
        return F.mse_loss(logits, target.to(logits.dtype))
