"""How each op that has kernels of zoo's own becomes a step of a plan.

Every function returns None for a case that the kernels do not take, which then runs through the
dispatcher. Sizes are what PyTorch's own fake tensors say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from zoo.compiler import onednn
from zoo.compiler.graph import arguments, scaled
from zoo.compiler.lowering import Lowering, native
from zoo.compiler.values import Value, Weight, is_float, is_map

_aten = torch.ops.aten
_zoo = torch.ops.zoo


def weights_of(lowering: Lowering, args: dict[str, Any]) -> tuple[Weight, Tensor | None] | None:
    """A layer's weight and bias, if they are constants that the kernels take."""
    plain, scale = map(lowering.real, scaled(args["weight"]) or (args["weight"], None))
    bias = lowering.real(args["bias"])
    if plain is None or plain.dtype != torch.float32 or plain.numel() == 0:
        return None
    return None if (bias is None) != (args["bias"] is None) else (Weight(plain, scale), bias)


def _pair(value: Any, default: int) -> list[int]:
    values = [int(one) for one in value] if isinstance(value, (list, tuple)) else [int(value)]
    if not values:
        return [default, default]
    return values * 2 if len(values) == 1 else values


@native(_zoo.conv2d.default, _zoo.conv2d_pool.default)
def _conv2d(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    weights = weights_of(lowering, args)
    source = lowering.value(args["input"])
    source, sides = lowering.padded.get(args["input"], (source, [0, 0, 0, 0]))
    source, scale = lowering.gated.get(args["input"], (source, None))
    residual = args.get("residual")
    residual = None if residual is None else lowering.value(residual)
    if weights is None or not is_map(source):
        return None
    weight, bias = weights
    top, bottom, left, right = sides
    stride, dilation = _pair(args["stride"], 1), _pair(args["dilation"], 1)
    padding = _pair(args["padding"], 0)
    batch, _, height, width = source.fake.shape
    extents = (height + top + bottom, width + left + right)
    conv_size = [
        (extent + 2 * pad - reach * (kernel - 1) - 1) // step + 1
        for extent, pad, reach, kernel, step in zip(
            extents, padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    size, pool = conv_size, dict[str, Any]()
    if node.target is _zoo.conv2d_pool.default:
        size, pool = _pool_after(conv_size, args)
    groups, activation = int(args["groups"]), args["activation"]
    pads = [padding[0] + top, padding[1] + left]
    fixed = "exact" if "exact" in (lowering.precision, args["precision"]) else "default"
    # The far sides' padding follows from the sizes.
    case = (
        f"{list(source.fake.shape)}{list(source.fake.stride()[1:])} * {list(weight.shape)} "
        f"-> {conv_size}{size} stride {stride} padding {pads} dilation {dilation} groups {groups} "
        f"{activation}{'' if residual is None else ' + residual'} {pool} {fixed}"
    )
    # oneDNN takes no scale.
    choice = lowering.choice(node, case) if scale is None else "zoo"
    even = (top, left) == (bottom, right)
    inner = all(user.op != "output" for user in node.users)  # outputs lie in memory of the plan's
    if choice == "onednn" and even and inner and not pool:
        bias_value = None if bias is None else lowering.value(args["bias"])
        done = onednn.convolution(
            lowering,
            node,
            source,
            weight,
            bias_value,
            residual,
            activation,
            [batch, weight.shape[0], *size],
            stride,
            pads,
            dilation,
            groups,
        )
        if done is not None:
            return done
    output = lowering.empty([batch, weight.shape[0], *size], node)
    return lowering.step(
        node.name,
        "conv2d",
        [source, scale, residual],
        output,
        lambda plan: plan.conv2d(
            input=source.view(),
            output=output.view(),
            weight=weight.plain,
            weight_scale=weight.scale,
            bias=bias,
            stride=stride,
            padding=pads,
            dilation=dilation,
            groups=groups,
            conv_size=conv_size,
            activation=activation,
            residual=None if residual is None else residual.view(),
            scale=None
            if scale is None
            else scale.view(scale.fake.expand(*source.fake.shape[:2], 1, 1)),
            precision="exact" if choice == "exact" else fixed,
            **pool,
        ),
        flops=2 * batch * conv_size[0] * conv_size[1] * weight.plain.numel(),
        weights=weight.plain.nbytes,
        over=residual,
    )


def _pool_after(conv_size: list[int], args: dict[str, Any]) -> tuple[list[int], dict[str, Any]]:
    """The size of the pool's output, and what the step has to know of it."""
    kernel, padding = _pair(args["pool_kernel"], 1), _pair(args["pool_padding"], 0)
    stride = _pair(args["pool_stride"] or kernel, 1)
    size = [
        (extent + 2 * pad - window) // step + 1
        for extent, pad, window, step in zip(conv_size, padding, kernel, stride, strict=True)
    ]
    named = {"pool": args["pool"], "pool_kernel": kernel, "pool_stride": stride}
    return size, {**named, "pool_padding": padding}


@native(_zoo.linear.default, _aten.linear.default)
def _linear(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    weights = weights_of(lowering, args)
    source, residual = lowering.value(args["input"]), args.get("residual")
    residual = None if residual is None else lowering.value(residual)
    if weights is None or not is_float(source) or source.fake.numel() == 0:
        return None
    weight, bias = weights
    out, channels = weight.shape
    rows = source.fake.numel() // channels
    output = lowering.rows([*source.fake.shape[:-1], out])
    window, added = [out, channels, 1, 1], None
    if args["input"] in lowering.flattened:
        # The convolution whose window is the whole map.
        pixels = lowering.flattened[args["input"]]
        window = [out, *pixels.fake.shape[1:]]
        pixels_out = lowering.reshaped(output, [rows, out, 1, 1])
    else:
        # As one image, a pixel per row: the kernels for convolutions look at the size of an image.
        pixels = _as_image(lowering, lowering.reshaped(source, [rows, channels]))
        pixels_out = _as_image(lowering, lowering.reshaped(output, [rows, out]))
        if residual is not None:
            added = _as_image(lowering, lowering.reshaped(residual, [rows, out]))
    activation = args.get("activation", "none")
    lowering.step(
        node.name,
        "linear",
        [pixels, added],
        output,
        lambda plan: plan.conv2d(
            input=pixels.view(),
            output=pixels_out.view(),
            weight=weight.plain.view(window),
            weight_scale=weight.scale,
            bias=bias,
            stride=[1, 1],
            padding=[0, 0],
            dilation=[1, 1],
            groups=1,
            conv_size=list(pixels_out.fake.shape[2:]),
            activation=activation,
            residual=None if added is None else added.view(),
            precision=lowering.precision,
        ),
        flops=2 * rows * weight.plain.numel(),
        weights=weight.plain.nbytes,
        over=residual,
    )
    return output


def _as_image(lowering: Lowering, value: Value) -> Value:
    """Rows of channels as the pixels of one image."""
    return lowering.view(value, value.fake.t()[None, :, None, :])


@native(_aten.flatten.using_ints, _aten.view.default, _aten.reshape.default)
def _flatten(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    """No step where only linear layers read a flattened map: flattening would copy it."""
    source = lowering.value(args["self"])
    if not is_map(source) or source.fake.is_contiguous() or source.fake.numel() == 0:
        return None
    options = {name: value for name, value in args.items() if name != "self"}
    flat = node.target(source.fake.contiguous(), **options)  # type: ignore[operator]
    if flat.shape != (source.fake.shape[0], source.fake[0].numel()):
        return None
    for user in node.users:
        if user.target is not _zoo.linear.default:
            return None
        read = arguments(user)
        if weights_of(lowering, read) is None or read["residual"] is not None:
            return None
    lowering.flattened[node] = source
    return lowering.view(source, flat)


@native(_zoo.max_pool2d.default)
def _max_pool2d(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    source = lowering.value(args["input"])
    if not is_map(source):
        return None
    kernel = _pair(args["kernel_size"], 1)
    stride, padding = _pair(args["stride"] or kernel, 1), _pair(args["padding"], 0)
    dilation = _pair(args["dilation"], 1)
    shape = node.target(  # type: ignore[operator]
        source.fake, kernel, stride, padding, dilation, args["ceil_mode"]
    ).shape
    output = lowering.empty(shape, node)
    return lowering.step(
        node.name,
        "max_pool2d",
        [source],
        output,
        lambda plan: plan.max_pool2d(
            source.view(), output.view(), kernel, stride, padding, dilation
        ),
    )


@native(_zoo.avg_pool2d.default)
def _avg_pool2d(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    source = lowering.value(args["input"])
    if not is_map(source):
        return None
    kernel = _pair(args["kernel_size"], 1)
    stride, padding = _pair(args["stride"] or kernel, 1), _pair(args["padding"], 0)
    include, divisor = args["count_include_pad"], args["divisor_override"]
    shape = node.target(  # type: ignore[operator]
        source.fake, kernel, stride, padding, args["ceil_mode"], include, divisor
    ).shape
    output = lowering.empty(shape, node)
    return lowering.step(
        node.name,
        "avg_pool2d",
        [source],
        output,
        lambda plan: plan.avg_pool2d(
            source.view(), output.view(), kernel, stride, padding, include, divisor or 0
        ),
    )


@native(_zoo.adaptive_avg_pool2d.default)
def _adaptive_avg_pool2d(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    source = lowering.value(args["input"])
    if not is_map(source):
        return None
    output = lowering.empty([*source.fake.shape[:2], *_pair(args["output_size"], 1)], node)
    return lowering.step(
        node.name,
        "adaptive_avg_pool2d",
        [source],
        output,
        lambda plan: plan.adaptive_avg_pool2d(source.view(), output.view()),
    )


@native(_aten.cat.default)
def _cat(lowering: Lowering, node: fx.Node, args: dict[str, Any]) -> Value | None:
    parts: Sequence[Value] = [lowering.value(part) for part in args["tensors"]]
    if not all(is_float(part) and part.fake.dim() <= 4 for part in parts):
        return None
    dim = args["dim"] % parts[0].fake.dim()
    if any(part.fake.dim() != parts[0].fake.dim() or part.fake.numel() == 0 for part in parts):
        return None
    sizes = list(parts[0].fake.shape)
    sizes[dim] = sum(part.fake.shape[dim] for part in parts)
    whole = lowering.together(parts, sizes, dim)
    if whole is not None:
        return whole
    whole = lowering.joined.get(node)
    if whole is None or list(whole.fake.shape) != sizes:
        map_like = len(sizes) == 4 and dim == 1
        whole = lowering.empty(sizes, node) if map_like else lowering.rows(sizes)
    start = 0
    for part in parts:
        place = lowering.view(whole, whole.fake.narrow(dim, start, part.fake.shape[dim]))
        start += part.fake.shape[dim]
        there = part.buffer is whole.buffer and (
            part.fake.storage_offset() == place.fake.storage_offset()
            and part.fake.stride() == place.fake.stride()
        )
        if not there:
            lowering.copy(part, place, node.name)
    return whole
