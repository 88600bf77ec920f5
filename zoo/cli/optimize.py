"""``zoo optimize``: make a network run by zoo's plans, say what they do, and save it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.output import Column, check_output_file, human_size, note, print_rows
from zoo.errors import UsageError, WeightsError, ZooError
from zoo.names import one_line
from zoo.registry import get_registry

if TYPE_CHECKING:
    import torch

    from zoo.compiler import OptimizedModule
    from zoo.compiler.report import Layer, Report
    from zoo.ops import Precision

_SUMMARY = [
    Column("model", shrink=True),
    Column("input_size", title="input", show=human_size),
    Column("threads", right=True),
    Column("steps", right=True),
    Column("in_pytorch", title="in PyTorch", right=True),
    Column("milliseconds", title="ms", show="{:.3f}".format, right=True),
    Column("values_bytes", title="values MiB", show=lambda size: f"{size / 2**20:.1f}", right=True),
    Column(
        "weights_bytes", title="weights MiB", show=lambda size: f"{size / 2**20:.1f}", right=True
    ),
]
_LAYERS = [
    Column("layer", shrink=True),
    Column("shape", show=human_size),
    Column("kernel", shrink=True),
    Column("microseconds", title="us", show="{:.1f}".format, right=True),
    Column("percent", title="%", show="{:.1f}".format, right=True),
    Column("gflops", title="GFLOP/s", show="{:.1f}".format, right=True),
    Column("percent_of_peak", title="% of peak", show="{:.0f}".format, right=True),
    Column("percent_of_roofline", title="% roofline", show="{:.0f}".format, right=True),
    Column("why", title="why in PyTorch", shrink=True),
]


@click.command("optimize")
@click.argument("name")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Weights to load from a file instead of the pretrained ones.",
)
@click.option("--no-pretrained", is_flag=True, help="Leave the weights random, to look at speed.")
@click.option(
    "--num-classes",
    type=click.IntRange(min=0),
    metavar="N",
    help="Outputs of the model, 0 for its features.  [default: the model's own]",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Height and width of the example.  [default: the model's own]",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Images of the example.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads of PyTorch.")
@click.option(
    "--precision",
    type=click.Choice(["default", "exact"]),
    default="default",
    show_default=True,
    help="exact avoids Winograd's convolutions.",
)
@click.option(
    "--tune",
    is_flag=True,
    help="Measure which kernels are fastest, oneDNN's too; kept in the cache for the next time.",
)
@click.option("--explain", is_flag=True, help="List the plan's steps instead of a summary.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Save the optimized network, for zoo.load_optimized.",
)
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def command(
    name: str,
    checkpoint: Path | None,
    no_pretrained: bool,
    num_classes: int | None,
    image_size: int | None,
    batch: int,
    threads: int | None,
    precision: Precision,
    tune: bool,
    explain: bool,
    format_: str,
    output: Path | None,
    force: bool,
) -> None:
    """Optimize a model for inference on this CPU, and save it for any.

    NAME is a model, with .TAG for its weights. Each step's time is the least of ten runs.

    \b
    Examples:
      zoo optimize timm/resnet18 --explain
      zoo optimize efficientnet-lite/efficientnet_lite0 -o lite0.zoo.safetensors
    """
    check_output_file(output, force)
    # Names are checked before torch is imported, which takes seconds.
    entry, tag = get_registry().resolve_weights(name)
    name = entry.name if tag is None else f"{entry.name}.{tag}"
    if checkpoint is not None and no_pretrained:
        raise UsageError("give either --checkpoint or --no-pretrained, not both")
    pretrained = checkpoint is None and not no_pretrained
    if pretrained and not entry.tags:
        raise WeightsError(
            f"{entry.name} has no pretrained weights: give some with --checkpoint FILE, or add "
            "--no-pretrained to leave them random"
        )
    import torch

    from zoo.models import create_model

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        model = create_model(
            name,
            pretrained=pretrained,
            num_classes=num_classes,
            checkpoint_path=str(checkpoint) if checkpoint else None,
        )
        example = _example(model, name, image_size, batch)
        fast = _optimized(model, name, example, precision, tune)
        report = fast.report(example)
        rows, columns = (
            (_layers(report), _LAYERS) if explain else ([_summary(name, example, report)], _SUMMARY)
        )
    finally:
        torch.set_num_threads(before)
    if output is not None:
        fast.save(output, overwrite=force)
        note(f"saved to {output}: zoo.load_optimized({str(output)!r}) runs it")
    print_rows(rows, format_, columns)


def _example(model: torch.nn.Module, name: str, image_size: int | None, batch: int) -> torch.Tensor:
    import torch

    config: Any = getattr(model, "pretrained_cfg", None) or {}
    size = list(config.get("input_size") or ())
    if image_size is not None:
        size = [size[0] if size else 3, image_size, image_size]
    if not size:
        raise UsageError(f"{name} does not say how large its images are: give --image-size N")
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *size, generator=generator)


def _optimized(
    model: torch.nn.Module, name: str, example: torch.Tensor, precision: Precision, tune: bool
) -> OptimizedModule:
    import torch

    from zoo.compiler import optimize

    model.eval()
    try:
        with torch.no_grad():
            model(example)
    except Exception as error:  # whatever the model's code raises
        size = human_size(example.shape)
        raise UsageError(one_line(f"{name} does not take images of {size}: {error}")) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it runs as it is: told below
        fast = optimize(
            model, example, precision=precision, tune="measure" if tune else None, keep="zoo"
        )
    if fast.reason is not None:
        raise ZooError(f"{name} runs in PyTorch as it is: {fast.reason}")
    return fast


def _is_foreign(layer: Layer) -> bool:
    return layer.kernel.startswith("aten::")


def _summary(name: str, example: torch.Tensor, report: Report) -> dict[str, Any]:
    import torch

    return {
        "model": name,
        "input_size": list(example.shape),
        "threads": torch.get_num_threads(),
        "steps": len(report.layers),
        "in_pytorch": sum(map(_is_foreign, report.layers)),
        "milliseconds": 1e3 * sum(layer.seconds for layer in report.layers),
        "values_bytes": report.arena_bytes,
        "weights_bytes": report.weight_bytes,
    }


def _layers(report: Report) -> list[dict[str, Any]]:
    """A row per step; the peak is that of multiply-adds in registers, the roofline memory's too."""
    import torch

    from zoo.benchmark.peak import measure

    ceilings = measure(torch.get_num_threads())
    peak = ceilings.fma_gflops
    total = sum(layer.seconds for layer in report.layers)
    rows = []
    for layer in report.layers:
        rate = layer.flops / layer.seconds / 1e9 if layer.flops and layer.seconds else None
        rows.append(
            {
                "layer": layer.name,
                "op": layer.op,
                "shape": list(layer.shape),
                "kernel": layer.kernel,
                "microseconds": 1e6 * layer.seconds,
                "percent": 100 * layer.seconds / total if total else None,
                "gflops": rate,
                "percent_of_peak": None if rate is None else 100 * rate / peak,
                "percent_of_roofline": 100
                * ceilings.least_seconds(
                    layer.flops, layer.moved, layer.weights, report.weight_bytes
                )
                / layer.seconds
                if layer.seconds
                else None,
                "why": _why(layer) if _is_foreign(layer) else None,
            }
        )
    note(
        f"{len(rows)} steps, {1e3 * total:.2f} ms, {sum(map(_is_foreign, report.layers))} of them "
        f"in PyTorch's kernels; memory: {report.arena_bytes / 2**20:.1f} MiB of values, "
        f"{report.weight_bytes / 2**20:.1f} MiB of packed weights; peak: {peak:.0f} GFLOP/s"
    )
    if report.in_parts:
        note(report.in_parts)
    return rows


def _why(layer: Layer) -> str:
    from zoo.compiler.lowering import NATIVE

    if any(target._schema.name == layer.op for target in NATIVE):
        return "zoo's kernel takes other dtypes, sizes or options"
    return "zoo has no kernel for this op"
