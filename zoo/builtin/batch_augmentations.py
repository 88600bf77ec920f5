"""Augmentations of a whole batch in which each image has random parameters of its own.

They take ``(N, C, H, W)``, uint8 or float32 in [0, 1], and with ``keys=`` int64 ``(N,)`` a random
key per image, on which alone that image's parameters depend. They return new tensors. Those that
only move pixels keep the dtype; those that compute return float32 in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.data.randomness import generator_of, symmetric_beta, uniform
from zoo.errors import UsageError

Range = float | Sequence[float]


@dataclass(frozen=True)
class BatchCrop:
    """Shift each image by up to ``padding`` pixels: a random window of the padded image.

    Args:
        padding: pixels added on each side.
        size: (height, width) of the windows; by default the images'.
        fill: what the padding shows, in [0, 1].
    """

    padding: int = 4
    size: tuple[int, int] | None = None
    fill: float = 0.0

    def __call__(self, images: Tensor, *, keys: Tensor) -> Tensor:
        """Return ``(N, C, height, width)`` of the same dtype."""
        samples, channels, height, width = images.shape
        to_height, to_width = self.size or (height, width)
        pad = self.padding
        if to_height > height + 2 * pad or to_width > width + 2 * pad:
            raise UsageError(
                f"batch_crop: {height}x{width} pixels padded by {pad} hold no window of "
                f"{to_height}x{to_width}: give more padding or a smaller size"
            )
        fill = self.fill if images.is_floating_point() else round(255 * self.fill)
        height, width = height + 2 * pad, width + 2 * pad
        padded = images.new_full((samples, channels, height, width), fill)
        padded[..., pad : height - pad, pad : width - pad] = images

        places = uniform(keys, 2)
        top = (places[0] * (height - to_height + 1)).long()
        left = (places[1] * (width - to_width + 1)).long()
        # Every row of a window is a run of memory, so that copying is a gather of runs.
        runs = padded.as_strided((padded.numel() - to_width + 1, to_width), (1, 1))
        planes = torch.arange(samples * channels).view(samples, channels, 1) * (height * width)
        starts = (top * width + left).view(-1, 1, 1) + planes + torch.arange(to_height) * width
        return runs.index_select(0, starts.flatten()).view(samples, channels, to_height, to_width)


@dataclass(frozen=True)
class BatchFlip:
    """Mirror images left to right with probability ``p`` each."""

    p: float = 0.5

    def __call__(self, images: Tensor, *, keys: Tensor) -> Tensor:
        """Return images of the same shape and dtype."""
        flipped = uniform(keys, 1)[0] < self.p
        # Choosing among both is quicker than a masked copy, which goes pixel by pixel.
        both = torch.cat([images, images.flip(-1)])
        return both.index_select(0, torch.arange(len(images)) + flipped * len(images))


@dataclass(frozen=True)
class BatchRotation:
    """Turn each image about its centre, by an angle in degrees, counter-clockwise.

    Args:
        degrees: the range (least, most), or one number for (-degrees, degrees).
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill: what shows in the corners, in [0, 1].
    """

    degrees: Range = 15.0
    interpolation: str = "bilinear"
    fill: float = 0.0

    def __call__(self, images: Tensor, *, keys: Tensor) -> Tensor:
        """Return float32 ``(N, C, H, W)``."""
        low, high = _range(self.degrees, 0.0)
        angle = torch.deg2rad(low + (high - low) * uniform(keys, 1)[0])
        height, width = images.shape[2:]
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        # In units of half the width and height, in which a rotation is not one.
        rows = [cos, -sin * height / width, zero, sin * width / height, cos, zero]
        turn = torch.stack(rows, 1).view(-1, 2, 3).float()
        grid = F.affine_grid(turn, list(images.shape), align_corners=False)
        pixels = _as_float(images) - self.fill
        turned = F.grid_sample(pixels, grid, self.interpolation, "zeros", align_corners=False)
        return turned.add_(self.fill)


_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and torchvision weigh
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class BatchColorJitter:
    """Change each image's brightness, contrast, saturation and hue by random amounts.

    The four are linear in the colours and commute, so that they are one matrix per image, and
    colours are clamped once, at the end. Hue turns the colours about the axis of greys in YIQ.

    Args:
        brightness, contrast, saturation: range of the factor, or ``f`` for [1 - f, 1 + f].
        hue: range of the turn in circles, or ``h`` for [-h, h].
    """

    brightness: Range = 0.4
    contrast: Range = 0.4
    saturation: Range = 0.4
    hue: Range = 0.0

    def __call__(self, images: Tensor, *, keys: Tensor) -> Tensor:
        """Return float32 ``(N, C, H, W)``; of images without three channels colour stays."""
        samples, channels, height, width = images.shape
        draws = uniform(keys, 4)
        settings = (self.brightness, self.contrast, self.saturation)
        ranges = [_range(setting, 1.0, least=0.0) for setting in settings]
        brightness, contrast, saturation = (
            low + (high - low) * draw for (low, high), draw in zip(ranges, draws, strict=False)
        )
        if channels == 3:
            grey = torch.tensor(_GREY, dtype=torch.float64)
            low, high = _range(self.hue, 0.0)
            colours = _turned_colours(low + (high - low) * draws[3], saturation)
        else:
            grey = torch.full((channels,), 1 / channels, dtype=torch.float64)
            colours = torch.eye(channels, dtype=torch.float64).expand(samples, -1, -1)
        values = images.float().view(samples, channels, height * width)
        white = 1.0 if images.is_floating_point() else 255.0
        mean_grey = values.mean(2).double() @ grey
        matrix = colours * (brightness * contrast / white).view(-1, 1, 1)
        offset = (brightness * (1 - contrast) * mean_grey / white).view(-1, 1, 1)
        changed = torch.baddbmm(offset.float(), matrix.float(), values)
        return changed.clamp_(0, 1).view(images.shape)


def _turned_colours(turns: Tensor, saturation: Tensor) -> Tensor:
    """Return matrices ``(N, 3, 3)`` that turn the hue and scale the saturation."""
    to_yiq = torch.tensor(_YIQ, dtype=torch.float64)
    angle = 2 * math.pi * turns
    cos, sin, zero = saturation * angle.cos(), saturation * angle.sin(), torch.zeros_like(angle)
    rows = [torch.ones_like(angle), zero, zero, zero, cos, -sin, zero, sin, cos]
    turn = torch.stack(rows, 1).view(-1, 3, 3)
    matrices: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return matrices


@dataclass(frozen=True)
class Cutout:
    """Blank a square at a random place (DeVries and Taylor 2017); it may reach over the edge.

    Args:
        size: side of the square in pixels.
        p: probability of an image to be blanked in.
        fill: what the square shows, in [0, 1]: one number, or one per channel.
    """

    size: int = 8
    p: float = 1.0
    fill: float | tuple[float, ...] = 0.0

    def __call__(self, images: Tensor, *, keys: Tensor) -> Tensor:
        """Return images of the same shape and dtype."""
        height, width = images.shape[2:]
        draws = uniform(keys, 3)
        size = torch.where(draws[2] < self.p, self.size, 0)
        top = (draws[0] * height).long() - size // 2
        left = (draws[1] * width).long() - size // 2
        square = _box(top, left, top + size, left + size, height, width)
        fill = torch.tensor(self.fill).view(-1, 1, 1)
        if not images.is_floating_point():
            fill = (255 * fill).round()
        return torch.where(square, fill.to(images.dtype), images)


@dataclass(frozen=True)
class Erasing:
    """Erase rectangles of random area and shape (Zhong et al. 2017).

    Args:
        p: probability of an image to be erased in.
        scale: range of the erased area over the image's.
        ratio: range of the rectangle's height over its width.
        count: most rectangles in an image; their areas are divided by their number.
        mode: ``"pixel"`` (noise), ``"rand"`` (a random colour) or ``"const"`` (the mean).
        mean, std: the data set's colours in [0, 1], of the noise and of the mean colour.
    """

    p: float = 0.25
    scale: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 10 / 3)
    count: int = 1
    mode: str = "pixel"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def __post_init__(self) -> None:
        if self.mode not in ("pixel", "rand", "const"):
            raise UsageError(f"erasing: mode {self.mode!r} is not one of pixel, rand, const")

    def __call__(self, images: Tensor, *, keys: Tensor) -> Tensor:
        """Return images of the same shape and dtype; few change, so they do one by one."""
        result = images.clone(memory_format=torch.contiguous_format)
        chosen = uniform(keys, 1)[0] < self.p
        for row in chosen.nonzero().flatten().tolist():
            self._erase(result[row], generator_of(int(keys[row])))
        return result

    def _erase(self, image: Tensor, generator: torch.Generator) -> None:
        channels, height, width = image.shape
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        number = 1 + int(torch.rand((), generator=generator) * self.count)
        for _ in range(number):
            area, shape, down, right = torch.rand(4, generator=generator).tolist()
            area = (
                height * width / number * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            )
            low, high = map(math.log, self.ratio)
            shape = math.exp(low + shape * (high - low))
            # A rectangle that is too long for the image keeps its area as far as it can.
            tall = min(height, max(1, round(math.sqrt(area * shape)), math.ceil(area / width)))
            wide = min(width, max(1, round(area / tall)))
            top, left = int(down * (height - tall + 1)), int(right * (width - wide + 1))
            size = {"pixel": (channels, tall, wide), "rand": (channels, 1, 1), "const": (1, 1, 1)}
            noise = torch.randn(size[self.mode], generator=generator)
            colour = (noise * (0 if self.mode == "const" else std) + mean).clamp(0, 1)
            if not image.is_floating_point():
                colour = (255 * colour).round()
            image[:, top : top + tall, left : left + wide] = colour.to(image.dtype)


@dataclass(frozen=True)
class Mix:
    """Mixup (Zhang et al. 2017), CutMix (Yun et al. 2019), or either by chance.

    Neighbours are mixed, the first image of a batch with the second, the third with the fourth;
    the last of an odd number stays. In a shuffled batch that is any other image, and a batch that
    is divided among processes at even places is mixed as it would be in one.

    Args:
        mixup_alpha: of the Beta distribution of an image's weight; 0 for no mixup.
        cutmix_alpha: of that of the area which an image keeps; 0 for no CutMix.
        prob: probability of an image to be mixed at all.
        switch_prob: probability of CutMix where both are in use.
    """

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        if min(self.mixup_alpha, self.cutmix_alpha) < 0 or not (
            self.mixup_alpha or self.cutmix_alpha
        ):
            raise UsageError("mixup and cutmix need an alpha above 0")

    def __call__(self, images: Tensor, targets: Tensor, *, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 images ``(N, C, H, W)`` and targets ``(N, num_classes)``."""
        samples = len(images)
        partners = torch.arange(samples) ^ 1
        if samples % 2:
            partners[-1] = samples - 1
        u, v, chance, switch, down, right = uniform(keys, 6)
        height, width = images.shape[2:]
        kept = torch.ones(samples, 1, 1, dtype=torch.float64)
        area = torch.ones(samples, dtype=torch.float64)
        cuts = switch < (self.switch_prob if self.mixup_alpha else 1.0)
        if self.mixup_alpha:
            area = symmetric_beta(u, v, self.mixup_alpha)
            kept = area.view(-1, 1, 1)
        if self.cutmix_alpha:
            side = (1 - symmetric_beta(u, v, self.cutmix_alpha)).sqrt()
            half_height, half_width = (side * height / 2).long(), (side * width / 2).long()
            y, x = (down * height).long(), (right * width).long()
            cut = _box(
                y - half_height, x - half_width, y + half_height, x + half_width, height, width
            )[:, 0]
            left_over = 1 - cut.double().mean((1, 2))
            kept = torch.where(cuts.view(-1, 1, 1), (~cut).double(), kept)
            area = torch.where(cuts, left_over, area)
        mixed = (chance < self.prob).double()
        area = 1 - mixed * (1 - area)
        kept = (1 - mixed.view(-1, 1, 1) * (1 - kept)).float().unsqueeze(1)
        pixels, share = _as_float(images), area.to(targets.dtype).unsqueeze(1)
        return (
            torch.lerp(pixels[partners], pixels, kept),
            torch.lerp(targets[partners], targets, share),
        )


def mixup(alpha: float = 1.0, prob: float = 1.0) -> Mix:
    """Weighted averages of two images, and of their targets (Zhang et al. 2017)."""
    return Mix(mixup_alpha=alpha, prob=prob)


def cutmix(alpha: float = 1.0, prob: float = 1.0) -> Mix:
    """A rectangle of one image in another, targets by area (Yun et al. 2019)."""
    return Mix(cutmix_alpha=alpha, prob=prob)


def mixup_cutmix(
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    prob: float = 1.0,
    switch_prob: float = 0.5,
) -> Mix:
    """Mixup or CutMix by chance, as DeiT trains (Touvron et al. 2020)."""
    return Mix(mixup_alpha, cutmix_alpha, prob, switch_prob)


def _as_float(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float().mul_(1 / 255)


def _range(setting: Range, centre: float, least: float = -math.inf) -> tuple[float, float]:
    """Read a range: both ends, or how far they are from the centre."""
    if isinstance(setting, int | float):
        return max(least, centre - setting), centre + setting
    low, high = setting
    return float(low), float(high)


def _box(
    top: Tensor, left: Tensor, bottom: Tensor, right: Tensor, height: int, width: int
) -> Tensor:
    """Return bool ``(N, 1, height, width)``: which pixels lie in a box per image."""
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= top[:, None]) & (y < bottom[:, None])
    columns = (x >= left[:, None]) & (x < right[:, None])
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
