"""The Python face of the registry: list what the plugins offer, and create it."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from zoo.errors import AmbiguousName, PluginError, UnknownName, UsageError, WeightsError
from zoo.names import matcher
from zoo.registry import Entry, get_registry, load_target
from zoo.specs import Architecture, Weights

if TYPE_CHECKING:
    import torch

Patterns = str | Iterable[str]


def list_models(
    filter: Patterns = "",
    *,
    plugin: str | None = None,
    pretrained: bool = False,
    exclude_filters: Patterns = (),
) -> list[str]:
    """Return the canonical names of models in natural order.

    Args:
        filter: a shell pattern (``"resnet*"``, ``"timm/*"``) or several of them, matched
            against canonical and bare names, with regard to case. Empty: every model.
        plugin: only models of this plugin.
        pretrained: only models that have pretrained weights.
        exclude_filters: patterns of names to leave out.

    Raises:
        UnknownName: there is no plugin of that name, or it could not be loaded.
    """
    entries = _matching("architectures", filter, plugin, exclude_filters)
    return [entry.name for entry in entries if entry.tags or not pretrained]


def list_pretrained(
    filter: Patterns = "",
    *,
    plugin: str | None = None,
    exclude_filters: Patterns = (),
) -> list[str]:
    """Return the pretrained weights there are, as canonical names with a tag.

    The arguments are those of :func:`list_models`; a pattern also matches names with a tag
    (``"*.in1k"``).
    """
    wanted, unwanted = matcher(filter or "*"), matcher(exclude_filters)
    names = []
    for entry in _of_plugin("architectures", plugin):
        for tag in entry.tags:
            forms = (entry.bare, entry.name, f"{entry.bare}.{tag}", f"{entry.name}.{tag}")
            if any(map(wanted, forms)) and not any(map(unwanted, forms)):
                names.append(forms[3])
    return names


def list_augmentations(
    filter: Patterns = "", *, plugin: str | None = None, exclude_filters: Patterns = ()
) -> list[str]:
    """Return the canonical names of augmentations; the arguments are as in `list_models`."""
    return [e.name for e in _matching("augmentations", filter, plugin, exclude_filters)]


def list_losses(
    filter: Patterns = "", *, plugin: str | None = None, exclude_filters: Patterns = ()
) -> list[str]:
    """Return the canonical names of losses; the arguments are as in `list_models`."""
    return [e.name for e in _matching("losses", filter, plugin, exclude_filters)]


def list_datasets(
    filter: Patterns = "", *, plugin: str | None = None, exclude_filters: Patterns = ()
) -> list[str]:
    """Return the canonical names of data sets; the arguments are as in `list_models`."""
    return [e.name for e in _matching("datasets", filter, plugin, exclude_filters)]


def list_backends(
    filter: Patterns = "", *, plugin: str | None = None, exclude_filters: Patterns = ()
) -> list[str]:
    """Return the canonical names of backends; the arguments are as in `list_models`."""
    return [e.name for e in _matching("backends", filter, plugin, exclude_filters)]


def is_model(name: str) -> bool:
    """Return whether `create_model` knows the name, with or without a weights tag."""
    try:
        get_registry().resolve_weights(name)
    except (UnknownName, AmbiguousName):
        return False
    return True


def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int = 3,
    checkpoint_path: str | os.PathLike[str] | None = None,
    **kwargs: Any,
) -> torch.nn.Module:
    """Build a model, and load weights into it if asked to.

    Args:
        name: ``[plugin/]name[.tag]``; without a tag, the first one is the default.
        pretrained: load the weights of the tag.
        num_classes: number of outputs. By default that of the weights or the architecture.
            Where it differs from the pretrained weights', the classifier starts at random.
        in_chans: channels of the input. Pretrained first convolutions are adapted.
        checkpoint_path: a local file whose weights to load instead (safetensors, or a
            ``torch.save`` of tensors); every tensor must fit. A checkpoint of zoo's own must be
            of this architecture (:func:`zoo.checkpoints.load_model` needs no name).
        kwargs: passed to the model's factory.

    Returns:
        The module, in train mode. Its dict ``pretrained_cfg`` has the preprocessing under
        timm's names (``input_size``, ``interpolation``, ``crop_pct``, ``mean``, ``std``), and
        ``architecture``, ``tag``, ``num_classes``, ``license``, ``resize_size``, ``labels``,
        ``source``.

    Raises:
        UnknownName, AmbiguousName: from the name.
        UsageError: the factory does not take the arguments.
        WeightsError: there are no pretrained weights, or they are damaged or do not fit.
        PluginError: the plugin's code cannot be imported or breaks its contract.
    """
    if pretrained and checkpoint_path is not None:
        raise UsageError("pass either pretrained=True or checkpoint_path, not both")
    if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 0):
        raise UsageError(
            f"num_classes must be a number from 0 (no classifier), not {num_classes!r}"
        )
    if not isinstance(in_chans, int) or in_chans < 1:
        raise UsageError(f"in_chans must be a number from 1, not {in_chans!r}")
    entry, tag = get_registry().resolve_weights(name)
    spec: Architecture = entry.spec
    if tag is None and spec.weights:
        tag = next(iter(spec.weights))
    weights = spec.weights[tag] if tag is not None else None
    if pretrained and weights is None:
        raise WeightsError(
            f"{entry.name} has no pretrained weights: leave pretrained out, or give "
            "checkpoint_path (zoo list-models --pretrained shows models that have some)"
        )

    model = _build(entry, weights if pretrained else None, num_classes, in_chans, kwargs)
    if pretrained and weights is not None:
        from zoo.weights import load_pretrained

        load_pretrained(
            model, f"{entry.name}.{tag}", spec, weights, num_classes=num_classes, in_chans=in_chans
        )
    elif checkpoint_path is not None:
        from zoo.checkpoints import check_architecture
        from zoo.weights import load_checkpoint

        check_architecture(checkpoint_path, entry.name)
        load_checkpoint(model, checkpoint_path)
    model.pretrained_cfg = _pretrained_cfg(model, spec, tag, weights)  # type: ignore[assignment]
    return model


def create_augmentation(
    name: str, *, generator: torch.Generator | None = None, **kwargs: Any
) -> Callable[..., Any]:
    """Create an augmentation (see :class:`zoo.Augmentation` for what it takes and returns).

    ``generator`` is passed on to factories that declare it; others draw no random numbers,
    or draw them from torch's global generator.

    Raises:
        UnknownName, AmbiguousName: from the name.
        UsageError: the factory does not take the arguments.
    """
    entry = get_registry().resolve("augmentations", name)
    factory = load_target(entry.spec.factory)
    if generator is not None and "generator" in inspect.signature(factory).parameters:
        kwargs["generator"] = generator
    augmentation: Callable[..., Any] = _call(entry, factory, {}, kwargs)
    return augmentation


def create_loss(name: str, **kwargs: Any) -> Callable[..., torch.Tensor]:
    """Create a loss (see :class:`zoo.Loss` for what it takes and returns).

    Raises:
        UnknownName, AmbiguousName: from the name.
        UsageError: the factory does not take the arguments.
    """
    entry = get_registry().resolve("losses", name)
    loss: Callable[..., torch.Tensor] = _call(entry, load_target(entry.spec.factory), {}, kwargs)
    return loss


def create_dataset(
    name: str,
    *,
    split: str | None = None,
    transform: Callable[..., Any] | None = None,
    **kwargs: Any,
) -> torch.utils.data.Dataset[Any]:
    """Create one split of a data set, by default the first (see :class:`zoo.Dataset`).

    Raises:
        UnknownName, AmbiguousName: from the name.
        UsageError: there is no such split, or the factory does not take the arguments.
    """
    entry = get_registry().resolve("datasets", name)
    splits: tuple[str, ...] = entry.spec.splits
    split = splits[0] if split is None else split
    if split not in splits:
        raise UsageError(f"{entry.name} has no split {split!r}; there are {', '.join(splits)}")
    dataset: torch.utils.data.Dataset[Any] = _call(
        entry, load_target(entry.spec.factory), {"split": split, "transform": transform}, kwargs
    )
    return dataset


def _of_plugin(kind: str, plugin: str | None) -> list[Entry]:
    registry = get_registry()
    return registry.entries(kind) if plugin is None else registry.entries_of(kind, plugin)


def _matching(kind: str, patterns: Patterns, plugin: str | None, excluded: Patterns) -> list[Entry]:
    wanted, unwanted = matcher(patterns or "*"), matcher(excluded)
    return [
        entry
        for entry in _of_plugin(kind, plugin)
        if (wanted(entry.bare) or wanted(entry.name))
        and not (unwanted(entry.bare) or unwanted(entry.name))
    ]


def _build(
    entry: Entry,
    weights: Weights | None,
    num_classes: int | None,
    in_chans: int,
    kwargs: dict[str, Any],
) -> torch.nn.Module:
    import torch

    spec: Architecture = entry.spec
    fixed: dict[str, Any] = {"in_chans": in_chans}
    if num_classes is None:
        num_classes = spec.num_classes
        if weights is not None and weights.num_classes is not None:
            num_classes = weights.num_classes
    if num_classes is not None:
        fixed["num_classes"] = num_classes
    model = _call(entry, load_target(spec.factory), {**fixed}, {**spec.default_kwargs, **kwargs})
    if not isinstance(model, torch.nn.Module):
        raise PluginError(
            f"the factory of {entry.name} must return a torch.nn.Module, not {type(model).__name__}"
        )
    return model


def _call(
    entry: Entry, factory: Callable[..., Any], fixed: dict[str, Any], kwargs: dict[str, Any]
) -> Any:
    """Call a factory; an argument that it does not take is the caller's mistake."""
    with contextlib.suppress(TypeError, ValueError):  # code without a signature finds out itself
        parameters = inspect.signature(factory).parameters.values()
        for p in parameters:
            needed = p.kind is p.KEYWORD_ONLY and p.default is p.empty
            if needed and p.name not in fixed and p.name not in kwargs:
                raise UsageError(f"{entry.name} needs {p.name!r}, and its plugin states no default")
        names = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            takes = ", ".join(name for name in names if name not in fixed) or "none"
            for name in fixed:
                if name not in names:
                    raise PluginError(f"the factory of {entry.name} must take {name!r}")
            for name in kwargs:
                if name not in names:
                    raise UsageError(
                        f"{entry.name} does not take {name!r}; its arguments are: {takes}"
                    )
    try:
        return factory(**fixed, **kwargs)
    except TypeError as error:
        # A factory with **kwargs finds out inside.
        for name in kwargs:
            if f"unexpected keyword argument {name!r}" in str(error):
                raise UsageError(f"{entry.name} does not take {name!r}") from error
        raise


def _pretrained_cfg(
    model: torch.nn.Module, spec: Architecture, tag: str | None, weights: Weights | None
) -> dict[str, Any]:
    """Return what the weights expect, over what the model itself says."""
    cfg: dict[str, Any] = {"architecture": spec.name, "tag": tag}
    shared = ("input_size", "interpolation", "crop_pct", "mean", "std", "num_classes", "license")
    for key in shared:
        of_weights = getattr(weights, key, None)
        cfg[key] = getattr(spec, key) if of_weights is None else of_weights
    for key in ("resize_size", "labels", "source"):
        cfg[key] = getattr(weights, key, None)
    own = getattr(model, "pretrained_cfg", None)
    own = dict(own) if isinstance(own, dict) else {}
    if weights is not None and weights.loader is None:  # these name weights of somebody else
        for key in ("url", "hf_hub_id", "file", "origin_url"):
            own.pop(key, None)
    return {**cfg, **own, **{key: value for key, value in cfg.items() if value is not None}}
