"""Augmentations of a whole batch in which each image has random parameters of its own.

They take ``(N, C, H, W)``, uint8 or float32 in [0, 1], and with ``keys=`` int64 ``(N,)`` a random
key per image, on which alone that image's parameters depend. They return new tensors. Those that
only move pixels keep the dtype; those that compute return float32 in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoo.data.randomness import normal, subkeys, symmetric_beta, uniform
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

        down, right = uniform(keys, 2).numpy()
        top = (down * (height - to_height + 1)).astype(np.int64)
        left = (right * (width - to_width + 1)).astype(np.int64)
        # Every row of a window is a run of memory, so that copying is a gather of runs.
        runs = padded.as_strided((padded.numel() - to_width + 1, to_width), (1, 1))
        first = (np.arange(samples) * channels * height + top) * width + left
        rows = np.arange(channels)[:, None] * height + np.arange(to_height)
        starts = torch.from_numpy(first[:, None] + rows.ravel() * width)
        return runs.index_select(0, starts.flatten()).view(samples, channels, to_height, to_width)


@dataclass(frozen=True)
class BatchFlip:
    """Mirror images left to right with probability ``p`` each."""

    p: float = 0.5

    def __call__(self, images: Tensor, *, keys: Tensor) -> Tensor:
        """Return images of the same shape and dtype."""
        chosen = (uniform(keys, 1)[0] < self.p).numpy()
        result = images.clone(memory_format=torch.contiguous_format)
        # NumPy gathers and scatters images as runs of memory, and PyTorch mirrors: each is
        # several times as quick at it as the other.
        result.numpy()[chosen] = torch.from_numpy(images.numpy()[chosen]).flip(-1).numpy()
        return result


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
        cos, sin = (part.float().view(-1, 1, 1) for part in (angle.cos(), angle.sin()))
        # grid_sample counts from -1 to 1 on both sides of the image, from edge to edge.
        y = ((2 * torch.arange(height) + 1) / height - 1).view(-1, 1)
        x = (2 * torch.arange(width) + 1) / width - 1
        across = cos * x - sin * (height / width) * y
        down = sin * (width / height) * x + cos * y
        grid = torch.stack([across, down], dim=-1)
        pixels = _as_float(images) - self.fill
        turned = F.grid_sample(pixels, grid, self.interpolation, "zeros", align_corners=False)
        return turned.add_(self.fill)


def _colour_matrices() -> NDArray[np.float32]:
    """Return (3, 9), three matrices of RGB: to grey, to what is left, and that a quarter turned."""
    yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    grey, quarter = np.zeros((3, 3)), np.zeros((3, 3))
    grey[0, 0] = quarter[1, 2] = 1
    quarter[2, 1] = -1  # from red by green to blue, as hues are counted
    grey, quarter = (np.linalg.solve(yiq, part @ yiq) for part in (grey, quarter))
    return np.stack([grey, np.eye(3) - grey, quarter]).reshape(3, 9).astype(np.float32)


_COLOURS = _colour_matrices()


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
        samples, channels = images.shape[:2]
        # NumPy is quicker than PyTorch at computing a few hundred numbers.
        draws = uniform(keys, 4).numpy().astype(np.float32)
        settings = (self.brightness, self.contrast, self.saturation)
        ranges = [_range(setting, 1.0, least=0.0) for setting in settings]
        brightness, contrast, saturation = (
            low + (high - low) * draw for (low, high), draw in zip(ranges, draws, strict=False)
        )
        white = np.float32(1 if images.is_floating_point() else 255)
        factor = brightness * contrast / white
        if channels == 3:
            low, high = _range(self.hue, 0.0)
            turn = np.float32(2 * np.pi) * (low + (high - low) * draws[3])
            strength = factor * saturation
            parts = np.stack([factor, strength * np.cos(turn), strength * np.sin(turn)], axis=1)
            # Sums written out: what a matrix product gives a row depends on how many there are.
            colours = sum(parts[:, i, None] * _COLOURS[i] for i in range(3))
            matrix = torch.from_numpy(colours).view(samples, 3, 3)
            grey = _COLOURS[0, :3].tolist()
        else:
            matrix = torch.eye(channels) * torch.from_numpy(factor).view(-1, 1, 1)
            grey = [1 / channels] * channels
        share = torch.from_numpy((1 - contrast) * brightness / white)
        values = images.float().reshape(samples, channels, -1)
        means = values.mean(2).unbind(1)
        offset = share * sum(weight * mean for weight, mean in zip(grey, means, strict=True))
        changed = torch.baddbmm(offset.view(-1, 1, 1), matrix, values)
        return changed.clamp_(0, 1).view(images.shape)


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
        rows, columns = _sides(top, left, top + size, left + size, height, width)
        cut = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1).to(images.dtype)
        fill = torch.tensor(self.fill).view(-1, 1, 1)
        if not images.is_floating_point():
            fill = (255 * fill).round()
        # Multiplying is ten times as quick as a masked copy.
        return images * (1 - cut) + fill.to(images.dtype) * cut


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
        draws = uniform(keys, 2 + 4 * self.count)
        chosen = (draws[0] < self.p).nonzero().flatten()
        keys, draws = keys[chosen], draws[:, chosen]
        number = 1 + (draws[1] * self.count).long()
        colour_keys = subkeys(keys, self.count)
        for rectangle in range(self.count):
            top, left, bottom, right = self._rectangle(
                draws[2 + 4 * rectangle :][:4], number, *images.shape[2:]
            )
            bottom = torch.where(rectangle < number, bottom, top)
            rows, columns = _sides(top, left, bottom, right, *images.shape[2:])
            which, y, x = (rows[:, :, None] & columns[:, None, :]).nonzero(as_tuple=True)
            result[chosen[which], :, y, x] = self._colours(
                colour_keys[rectangle], which, y * images.shape[3] + x, images
            )
        return result

    def _rectangle(
        self, draws: Tensor, number: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return top, left, bottom and right of a rectangle per image."""
        least, most = self.scale
        area = height * width / number * (least + draws[0] * (most - least))
        low, high = map(math.log, self.ratio)
        shape = torch.exp(low + draws[1] * (high - low))
        # A rectangle that is too long for the image keeps its area as far as it can.
        tall = torch.maximum((area * shape).sqrt().round(), (area / width).ceil()).clamp(1, height)
        wide = (area / tall).round().clamp(1, width)
        top = (draws[2] * (height - tall + 1)).long()
        left = (draws[3] * (width - wide + 1)).long()
        return top, left, top + tall.long(), left + wide.long()

    def _colours(self, keys: Tensor, which: Tensor, places: Tensor, images: Tensor) -> Tensor:
        """Return what pixels ``(M,)`` of the chosen images are painted with: ``(M, C)``."""
        channels = images.shape[1]
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        if self.mode == "const":
            colours = mean.expand(len(which), channels)
        elif self.mode == "rand":
            colours = (mean + std * normal(keys[:, None], torch.arange(channels)))[which]
        else:
            numbers = places[:, None] * channels + torch.arange(channels)
            colours = mean + std * normal(keys[which, None], numbers)
        colours = colours.clamp(0, 1)
        if not images.is_floating_point():
            colours = (255 * colours).round()
        return colours.to(images.dtype)


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
        mixes, cuts = chance < self.prob, switch < (self.switch_prob if self.mixup_alpha else 1.0)
        share = torch.ones(samples, dtype=torch.float64)  # of the targets that an image keeps
        if self.mixup_alpha:
            share = torch.where(mixes, symmetric_beta(u, v, self.mixup_alpha), share)
        weights = share.float().view(-1, 1, 1)  # of its pixels
        if self.cutmix_alpha:
            height, width = images.shape[2:]
            side = (1 - symmetric_beta(u, v, self.cutmix_alpha)).sqrt() * (cuts & mixes)
            half_height, half_width = (side * height / 2).long(), (side * width / 2).long()
            y, x = (down * height).long(), (right * width).long()
            rows, columns = _sides(
                y - half_height, x - half_width, y + half_height, x + half_width, height, width
            )
            cut = (rows[:, :, None] & columns[:, None, :]).float()
            weights = torch.where(cuts.view(-1, 1, 1), 1, weights) * (1 - cut)
            kept = 1 - rows.sum(1) * columns.sum(1) / (height * width)
            share = torch.where(cuts, kept.double(), share)
        pixels = _as_float(images)
        return (
            torch.lerp(pixels.index_select(0, partners), pixels, weights.unsqueeze(1)),
            torch.lerp(targets[partners], targets, share.to(targets.dtype).unsqueeze(1)),
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


def _sides(
    top: Tensor, left: Tensor, bottom: Tensor, right: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return which rows and columns a box per image covers: bool (N, height), (N, width)."""
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= top[:, None]) & (y < bottom[:, None])
    return rows, (x >= left[:, None]) & (x < right[:, None])
