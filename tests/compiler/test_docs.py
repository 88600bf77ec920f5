"""The page on zoo.optimize runs."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "optimize.md").read_text()


def test_examples_run() -> None:
    scope: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on a busy machine PyTorch may be the faster
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(block, scope)
    assert scope["logits"].shape == (8, 10)  # type: ignore[attr-defined]
