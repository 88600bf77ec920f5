"""The words of WordNet ids, which ImageNet's class folders are named by."""

from __future__ import annotations

from typing import Any


def imagenet_words() -> dict[str, str]:
    """WordNet id -> words ("tench, Tinca tinca"), of ImageNet's 21,841; none without timm."""
    try:
        import timm.data
    except ImportError:
        return {}
    info: Any = timm.data.ImageNetInfo("imagenet-22k")
    return dict(zip(info.label_names(), info.label_descriptions(), strict=True))
