"""A sample of timm's architectures, by zoo.optimize and by torch.compile(backend="zoo").

benchmarks/sweep.py goes through all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

import zoo
from zoo.benchmark.networks.model import settle
from zoo.compiler.optimize import TOLERANCE, difference

timm = pytest.importorskip("timm")

SAMPLE = (
    "convnext_atto", "convnextv2_atto", "cs3darknet_focus_s", "densenet121", "dla34", "dpn48b",
    "eca_resnext26ts", "edgenext_xx_small", "efficientnet_b0", "ese_vovnet19b_slim_dw",
    "fasternet_t0", "fastvit_t8", "fbnetc_100", "gernet_s", "ghostnet_050", "hgnetv2_b0",
    "hrnet_w18_small", "inception_next_atto", "legacy_seresnet18", "mambaout_femto", "mixnet_s",
    "mobilenetv2_035", "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "mobileone_s0",
    "nf_regnet_b0", "poolformer_s12", "regnetx_002", "regnety_002", "repghostnet_050",
    "repvgg_a0", "repvit_m0_9", "resnet18", "resnet26t", "resnetblur18", "rexnet_100",
    "selecsls42b", "skresnet18", "starnet_s050", "tf_efficientnet_lite0",
)  # fmt: skip


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", SAMPLE)
@torch.no_grad()
def test_gives_what_eager_gives(name: str):
    model = timm.create_model(name).eval()
    settle(model, torch.randn(4, 3, 64, 64))
    x = torch.randn(2, 3, 64, 64)
    expected = model(x)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*runs as it is")
        fast = zoo.optimize(model, x[:1], keep="zoo")
        compiled = torch.compile(model, backend="zoo", options={"keep": "zoo"})
        assert difference(compiled(x), expected) <= TOLERANCE
    assert difference(fast(x), expected) <= TOLERANCE
    assert difference(fast(x[:1]), expected[:1]) <= TOLERANCE
