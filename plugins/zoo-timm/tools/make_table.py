"""Write ``src/zoo_timm/table.csv``: what the index cannot read off timm's registry.

For each architecture of the installed timm: its family, its default input size, the number of
its parameters and its multiply-accumulates at that size, batch 1. Models are built and run on
the meta device, so that no weights are allocated and nothing is computed. What cannot be
counted this way stays empty, which the index reads as unknown.

    python plugins/zoo-timm/tools/make_table.py            # the whole table, about ten minutes
    python plugins/zoo-timm/tools/make_table.py 'resnet*'  # print some rows, write nothing
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import timm
import torch
from timm.models import get_pretrained_cfg
from timm.models._registry import _model_to_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

TABLE = Path(__file__).resolve().parents[1] / "src" / "zoo_timm" / "table.csv"
COLUMNS = ("name", "family", "input_size", "params", "macs")


class MacCounter(TorchDispatchMode):
    """Adds up the multiply-accumulates of what runs inside it, by PyTorch's own formulas.

    ``torch.utils.flop_counter.FlopCounterMode`` does that for each module too, and its module
    hooks fail on some of timm's models.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.macs += formula(*args, **kwargs, out_val=out) // 2
        return out


def count(name: str, input_size: tuple[int, int, int]) -> tuple[int | None, int | None]:
    """Parameters and multiply-accumulates of one model; None for what cannot be counted.

    Counted are convolutions and matrix products, those of attention included, one
    multiply-accumulate being two of PyTorch's FLOPs. Normalisation, activation, pooling and
    addition are not, as is the custom.
    """
    params = None
    try:
        with torch.device("meta"), torch.no_grad():
            model = timm.create_model(name).eval()
            params = sum(p.numel() for p in model.parameters())
            images = torch.zeros(1, *input_size)
            with MacCounter() as counter:
                model(images)
        return params, counter.macs
    except Exception as error:
        # Some models compute with values while they are built or run; the rest must go on.
        reason = str(error).strip().partition("\n")[0]
        print(f"{name}: {type(error).__name__}: {reason}", file=sys.stderr)
        return params, None


def rows(names: Iterable[str]) -> Iterable[tuple[str, str, str, int | None, int | None]]:
    """One row of the table for each name."""
    for name in names:
        config = get_pretrained_cfg(name)
        size = tuple(config.input_size) if config is not None else None
        params, macs = count(name, size) if size else (None, None)
        yield name, _model_to_module[name], "x".join(map(str, size or ())), params, macs


def main(patterns: list[str]) -> None:
    """Print the rows that match the patterns, or write the whole table."""
    if patterns:
        csv.writer(sys.stdout).writerows(rows(timm.list_models(patterns)))
        return
    begin = time.monotonic()
    partial = TABLE.with_suffix(".tmp")
    with partial.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# timm {timm.__version__}, torch {torch.__version__.partition('+')[0]}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        names = timm.list_models()
        for done, row in enumerate(rows(names), 1):
            writer.writerow(row)
            if done % 100 == 0:
                seconds = time.monotonic() - begin
                print(f"{done}/{len(names)} models, {seconds:.0f} s", file=sys.stderr)
    partial.replace(TABLE)
    # zoo keeps the index of an editable install until the file of its builder changes.
    TABLE.with_name("index.py").touch()


if __name__ == "__main__":
    main(sys.argv[1:])
