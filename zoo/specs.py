"""What a plugin contributes: frozen dataclasses made of standard-library values.

A spec names its code as a *target*, the string ``"package.module:attribute"``, so that
listing what exists imports none of it. Only ``name`` and ``factory`` (and, where they
matter, ``level`` and ``target``) are required; what is unknown stays ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PLUGIN_API = (1, 0)
"""The (major, minor) version of the hooks and specs, which plugins state a range for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One set of trained weights of an architecture.

    Attributes:
        source: where the file is: ``"package:IMPORT_NAME/path/in/it.pth"`` (a file inside an
            installed package), an ``https://`` URL, ``"hf-hub:ORG/REPO"`` or a local path.
            With ``loader`` given, whatever the loader understands.
        sha256: hexadecimal digest of the file; it is verified before the file is read.
        num_classes: outputs of the head that these weights have.
        labels: target of the class names: a sequence of str in class-index order, or a
            function without arguments that returns one.
        mean, std, interpolation, crop_pct, input_size, resize_size: the preprocessing these
            weights were trained for, where it differs from the architecture's.
        metrics: published figures, e.g. ``{"imagenet-1k/top1": 75.5}`` (per cent).
        license: SPDX identifier of the weights' licence.
        convert: target of ``convert(state_dict, model) -> state_dict``, for files whose
            tensor names are not the model's.
        loader: target of ``loader(model, weights, *, num_classes, in_chans) -> None``, for
            sources with download code of their own. It replaces source, hash and convert.
    """

    source: str
    sha256: str | None = None
    num_classes: int | None = None
    labels: str | None = None
    input_size: tuple[int, int, int] | None = None
    resize_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    license: str | None = None
    convert: str | None = None
    loader: str | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model family member that the factory can build.

    The factory is ``factory(*, num_classes, in_chans, **kwargs) -> torch.nn.Module`` and
    returns a module that maps images ``(N, in_chans, H, W)`` to logits ``(N, num_classes)``,
    with random weights: loading trained ones is the core's work, never the factory's.

    Attributes:
        input_size: ``(channels, height, width)`` that the model is meant for.
        mean, std: per-channel normalisation of inputs in [0, 1].
        interpolation: ``"nearest"``, ``"bilinear"``, ``"bicubic"`` or ``"lanczos"``.
        crop_pct: side of the centre crop over the side that images are resized to.
        num_classes: the factory's default number of outputs.
        params: number of parameters. macs: multiply-accumulates at ``input_size``.
        native_for: data sets that the architecture was designed for, e.g. ``("cifar10",)``.
        weights: tag -> :class:`Weights`; the first tag is the default one.
        capabilities: e.g. ``"features"``, ``"img_size"``.
        cam_target: dotted name of the module to explain (Grad-CAM).
        default_kwargs: passed to the factory beneath the caller's own keyword arguments.
    """

    name: str
    factory: str
    family: str | None = None
    input_size: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    num_classes: int | None = None
    params: int | None = None
    macs: int | None = None
    native_for: tuple[str, ...] = ()
    weights: Mapping[str, Weights] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    cam_target: str | None = None
    license: str | None = None
    paper: str | None = None
    default_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """A large set of architectures, listed from an index instead of from code.

    ``zoo_architectures`` may return catalogs among architectures. ``builder`` is the target
    of a function without arguments that returns an iterable of :class:`Architecture`; it may
    import what it likes, because it runs once per version of the plugin and of the
    distributions in ``depends``, and its result is kept in the user's cache folder.
    """

    name: str
    builder: str
    depends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A transformation of training images.

    ``factory(**kwargs)`` returns ``aug``. Level ``"image"`` takes one image, level
    ``"batch"`` a tensor ``(N, C, H, W)``, uint8 or float in [0, 1]. With
    ``targets="unchanged"`` it is ``aug(images) -> images``; with ``"soft"`` it is
    ``aug(images, targets) -> (images, targets)`` and the targets are ``(N, num_classes)``
    probabilities. A batch augmentation may return float32 in [0, 1] for uint8.

    A factory that declares ``generator`` is given a ``torch.Generator`` to draw from. One of
    level ``"batch"`` whose spec says ``per_sample`` takes none: ``aug`` is called with ``keys=``,
    int64 ``(N,)``, and what happens to an image may depend on its own key alone
    (``zoo.data.randomness.uniform`` makes random numbers of keys).
    """

    name: str
    factory: str
    level: Literal["image", "batch"] = "image"
    targets: Literal["unchanged", "soft"] = "unchanged"
    license: str | None = None
    paper: str | None = None
    per_sample: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """A training criterion: ``factory(**kwargs)`` returns ``loss(logits, target) -> scalar``.

    ``target`` says what it accepts: class indices ``(N,)`` int64 (``"index"``),
    probabilities ``(N, num_classes)`` (``"soft"``), 0/1 labels ``(N, num_classes)``
    (``"multihot"``) or class indices against features (``"embedding"``). A loss that takes
    several lists them, e.g. ``("index", "soft")``. ``needs_features`` says that it is called
    with the penultimate features instead of logits.
    """

    name: str
    factory: str
    target: str | tuple[str, ...] = "index"
    needs_features: bool = False
    license: str | None = None
    paper: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images. ``factory(*, split, transform=None, **kwargs)`` returns a map-style
    ``torch.utils.data.Dataset`` of ``(image, class_index)`` with these attributes:

    - ``classes``, a sequence of str;
    - ``targets``, an int64 tensor ``(N,)`` of class indices;
    - ``images``, a tensor ``(N, C, H, W)`` of uint8 or of float32 in [0, 1], where they fit in
      memory; or ``paths``, a sequence of the names of N image files.

    Data that lie on disk are named by the keyword argument ``root``, a folder. Where it is legal,
    ``download=True`` fetches them. A factory whose splits depend on what lies there has an
    attribute ``find_splits(root)``, which returns their names.

    Attributes:
        input_size: of all images, where they have the same.
        mean, std: per-channel statistics of the training images, in [0, 1].
        recipe: name of the training recipe that is used where none is named.
    """

    name: str
    factory: str
    task: str = "classification"
    num_classes: int | None = None
    input_size: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    splits: tuple[str, ...] = ("train", "test")
    recipe: str | None = None
    license: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine that runs networks on the CPU: ``zoo.optimize(backend=NAME)`` uses it.

    ``prepare(module, args, kwargs) -> run`` takes a module in eval mode, float32, and example
    inputs. ``run(*args, **kwargs)``, called with tensors of the same sizes, returns what the
    module returns, in new tensors of the same structure, and computes in float32 on
    ``torch.get_num_threads()`` threads (those of the moment of preparing). What the engine cannot
    take raises :class:`zoo.ZooError`; any other exception is reported as one line too.

    Attributes:
        prepare: target of that function; it imports the engine.
        requires: names of the modules that must be installed, for ``zoo list-backends``.
        dynamic: ``run`` takes inputs of other sizes too; otherwise it is prepared anew for each.
        auto: ``zoo.optimize(backend="auto")`` tries it; not for what takes minutes to prepare.
        license: SPDX identifier of the engine's licence.
        summary: a line that says what it is.
    """

    name: str
    prepare: str
    requires: tuple[str, ...] = ()
    dynamic: bool = False
    auto: bool = True
    license: str | None = None
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand of ``zoo``: ``target`` names a ``click.Command``, imported when it runs."""

    name: str
    target: str
    help: str = ""


Spec = Architecture | Catalog | Augmentation | Loss | Dataset | Backend | Command
