"""The factory behind every architecture of the index."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn


def create(*, model_name: str, num_classes: int, in_chans: int, **kwargs: Any) -> nn.Module:
    """Build timm's ``model_name`` with random weights.

    Further keyword arguments are timm's, e.g. ``drop_path_rate`` or ``img_size``. The model
    keeps its arguments in ``timm_kwargs``: loading weights needs them (see zoo_timm.weights).
    """
    arguments = dict(kwargs, model_name=model_name, num_classes=num_classes, in_chans=in_chans)
    model = timm.create_model(pretrained=False, **arguments)
    model.timm_kwargs = arguments
    return model
