"""The preprocessing equals timm's for the same configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.data.images import ImageError
from zoo.data.transforms import EvalTransform
from zoo.errors import UsageError

timm_data = pytest.importorskip("timm.data")


def _image(width: int, height: int, seed: int = 0, channels: int = 3) -> Image.Image:
    shape = (height, width, channels) if channels > 1 else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def _timm(config: dict[str, Any], image: Image.Image) -> torch.Tensor:
    keys = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
    result = timm_data.create_transform(
        **{key: config[key] for key in keys if key in config}, is_training=False
    )(image)
    assert isinstance(result, torch.Tensor)
    return result


configs = st.fixed_dictionaries(
    {
        "input_size": st.tuples(st.just(3), st.integers(8, 64), st.integers(8, 64))
        | st.integers(8, 64).map(lambda side: (3, side, side)),
        "interpolation": st.sampled_from(["bilinear", "bicubic", "nearest", "lanczos", "box"]),
        "crop_pct": st.floats(0.5, 1.0),
        "crop_mode": st.sampled_from(["center", "squash", "border"]),
        "mean": st.sampled_from([(0.485, 0.456, 0.406), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)]),
        "std": st.sampled_from([(0.229, 0.224, 0.225), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)]),
    }
)


@given(config=configs, width=st.integers(4, 150), height=st.integers(4, 150))
@settings(max_examples=300, deadline=None)
def test_equals_timm(config: dict[str, Any], width: int, height: int) -> None:
    # timm raises an error where a side would vanish; ours keeps a pixel (tested below).
    assume(config["crop_mode"] != "border" or max(width, height) < 15 * min(width, height))
    image = _image(width, height)
    ours = EvalTransform.from_config(config)(image)
    assert ours.shape == config["input_size"]
    torch.testing.assert_close(ours, _timm(config, image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (300, 300), (100, 90), (224, 224)])
def test_photograph_sizes_equal_timm(size: tuple[int, int]) -> None:
    config = {"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic"}
    image = _image(*size)
    assert torch.equal(EvalTransform.from_config(config)(image), _timm(config, image))


def test_missing_settings_are_timms_defaults() -> None:
    image = _image(500, 375)
    ours = EvalTransform.from_config({"mean": None})(image)
    assert torch.equal(
        ours, timm_data.create_transform((3, 224, 224), interpolation="bicubic")(image)
    )


def test_resize_size_rules_over_crop_pct() -> None:
    transform = EvalTransform.from_config(
        {"input_size": (3, 32, 32), "crop_pct": 1.0, "resize_size": 48}
    )
    assert transform.resize == (48, 48)


def test_grey() -> None:
    transform = EvalTransform.from_config(
        {"input_size": (1, 8, 8), "crop_pct": 1.0, "mean": (0.2, 0.4, 0.6), "std": (0.5,)}
    )
    image = _image(8, 8, channels=1)
    expected = (torch.from_numpy(np.array(image))[None] / 255 - 0.4) / 0.5
    torch.testing.assert_close(transform(image), expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"input_size": (4, 8, 8)}, "4 channels"),
        ({"interpolation": "random"}, "interpolation 'random'"),
        ({"crop_mode": "corner"}, "crop mode 'corner'"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values"),
    ],
)
def test_unknown_settings_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EvalTransform.from_config(config)


def test_very_thin_image_is_refused_before_memory_runs_out() -> None:
    with pytest.raises(ImageError, match="too thin: 2 x 60000"):
        EvalTransform.from_config({})(Image.new("RGB", (2, 60000)))


def test_side_that_would_vanish_keeps_a_pixel() -> None:
    config = {"input_size": (3, 8, 8), "crop_mode": "border"}
    assert EvalTransform.from_config(config)(Image.new("RGB", (1, 6000))).shape == (3, 8, 8)
