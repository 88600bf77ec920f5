"""Loading of trained weights with timm's own download and conversion code."""

from __future__ import annotations

import re

import timm
from timm.models import get_arch_pretrained_cfgs, set_pretrained_check_hash
from torch import nn

import zoo
from zoo_timm.index import location


def load(model: nn.Module, weights: zoo.Weights, *, num_classes: int, in_chans: int) -> None:
    """Load ``weights`` into a model that :func:`zoo_timm.models.create` built.

    timm converts a checkpoint while it builds a model, with functions that are private to each
    model family: renamed tensors, resampled position embeddings, a first convolution for other
    than three channels, a new head where ``num_classes`` differs from the checkpoint's. So a
    pretrained twin is built with the model's own arguments, and its tensors are copied.

    Raises:
        zoo.WeightsError: the file could not be fetched or read, or does not fit the model.
    """
    arguments = dict(model.timm_kwargs, num_classes=num_classes, in_chans=in_chans)
    name = arguments.pop("model_name")
    configs = get_arch_pretrained_cfgs(name)
    known = {location(c): tagged for tagged, c in configs.items() if c.has_weights}
    if weights.source not in known:
        raise zoo.WeightsError(
            f"timm/{name} has no weights at {weights.source} in timm {timm.__version__}; "
            f"zoo info timm/{name} shows what it has"
        )
    tagged = known[weights.source]
    # torch.hub's file names carry the start of the file's hash, where their authors put it in.
    set_pretrained_check_hash(re.search(r"-[0-9a-f]{8,}\.", weights.source) is not None)
    try:
        twin = timm.create_model(tagged, pretrained=True, **arguments)
        model.load_state_dict(twin.state_dict())
    except Exception as error:  # of torch, the hub, its HTTP client, urllib or the file system
        raise zoo.WeightsError(
            f"timm/{tagged}: the weights {_problem(error, weights.source)}"
        ) from error


def _problem(error: Exception, source: str) -> str:
    """One line on what went wrong and what helps."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[0].rstrip(".:")
    if reason.startswith("Error(s) in loading state_dict"):  # torch's words, many lines long
        return (
            "do not fit the model; leave out the arguments that change its shape, or "
            "pretrained=True"
        )
    if isinstance(error, FileNotFoundError):  # the hub's words are long and name no remedy
        reason = "not in the cache, and no connection"
    return (
        f"could not be loaded from {source} ({reason}); go online once (they are kept), or pass "
        "a file of your own with checkpoint_path= (--checkpoint)"
    )
