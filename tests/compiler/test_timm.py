"""Whole networks of timm: the rewritten graph gives eager's output, and nothing is left unfused."""

from __future__ import annotations

import pytest
import torch
from graphs import aten, ops, randomise, zoo

from zoo.compiler import capture, rewrite

timm = pytest.importorskip("timm")

LEFT_OVER = (
    aten.batch_norm.default,
    aten.relu.default,
    aten.relu_.default,
    aten.conv2d.default,
    aten.linear.default,
    aten.dropout.default,
)


@pytest.mark.parametrize(
    ("name", "convolutions"),
    [
        ("resnet18", 20),
        ("repvgg_a0", 22),
        ("mobileone_s0", 43),
        ("mobilenetv3_small_100", 53),
        ("efficientnet_lite0", 49),
        ("regnety_002", None),
        ("convnext_atto", 40),
        ("densenet121", None),
        ("resnet26t", None),
        ("ghostnet_050", None),
        ("mobilenetv2_035", None),
        ("lcnet_050", None),
    ],
)
def test_rewritten_network(name: str, convolutions: int | None):
    model = randomise(timm.create_model(name))
    captured = capture(model, (torch.randn(1, 3, 64, 64),))
    rewrite(captured.graph_module)
    captured.graph_module.graph.lint()
    x = torch.randn(2, 3, 64, 96)
    assert captured.accepts([x])
    with torch.no_grad():
        expected = model(x)
        actual = captured(x)
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()
    left = ops(captured)
    assert not [target for target in LEFT_OVER if target in left]
    if convolutions is not None:
        assert left[zoo.conv2d.default] + left[zoo.conv2d_pool.default] == convolutions


def test_features_only():
    model = randomise(timm.create_model("resnet18", features_only=True))
    x = torch.randn(1, 3, 64, 64)
    captured = capture(model, (x,))
    rewrite(captured.graph_module)
    with torch.no_grad():
        for actual, expected in zip(captured(x), model(x), strict=True):
            assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()
