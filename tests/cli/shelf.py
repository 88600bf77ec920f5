"""A plugin file for the tests: small, with gaps in what it says, and one broken command."""

from __future__ import annotations

import click

import zoo


@zoo.hookimpl
def zoo_architectures() -> list[zoo.Architecture]:
    free = zoo.Weights(
        source="weights.safetensors", license="Apache-2.0", metrics={"in1k/top1": 70.0}
    )
    bound = zoo.Weights(source="weights.pth", license="CC-BY-NC-4.0", metrics={"in1k/top1": 80.0})
    silent = zoo.Weights(source="weights.pth")

    def net(name: str, **fields: object) -> zoo.Architecture:
        return zoo.Architecture(name, factory="shelf:build", **fields)  # type: ignore[arg-type]

    return [
        net("net2", family="net", params=2_000_000, macs=300_000_000, input_size=(3, 64, 64),
            weights={"bound": bound, "free": free}),
        net("net10", family="net", params=10_000_000, input_size=(1, 32, 48),
            weights={"bound": bound}),
        net("net1", family="net", params=999, weights={"silent": silent}, license="MIT"),
        net("odd", capabilities=("features",), native_for=("cifar10",)),
    ]  # fmt: skip


def build(*, num_classes: int = 10, in_chans: int = 3) -> object:
    import torch

    return torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(in_chans, num_classes)
    )


@zoo.hookimpl
def zoo_losses() -> list[zoo.Loss]:
    return [zoo.Loss("hinge", factory="shelf:nothing", target=("index", "soft"))]


@zoo.hookimpl
def zoo_augmentations() -> list[zoo.Augmentation]:
    return [zoo.Augmentation("blend", factory="shelf:nothing", level="batch", targets="soft")]


@zoo.hookimpl
def zoo_datasets() -> list[zoo.Dataset]:
    return [
        zoo.Dataset("dots", factory="shelf:nothing", num_classes=3, input_size=(1, 8, 8)),
        zoo.Dataset("hinge", factory="shelf:nothing"),
    ]


@zoo.hookimpl
def zoo_backends() -> list[zoo.Backend]:
    return [
        zoo.Backend("here", "shelf:nothing", ("json",), license="MIT", summary="Is usable."),
        zoo.Backend("gone", "shelf:nothing", ("json", "engine_that_is_gone")),
    ]


@zoo.hookimpl
def zoo_commands() -> list[zoo.Command]:
    return [
        zoo.Command("greet", "shelf:greet", help="Say a greeting."),
        zoo.Command("absent", "shelf_that_is_not_there:command", help="Cannot be imported."),
        zoo.Command("number", "shelf:number", help="Is no command."),
        zoo.Command("plugins", "shelf:greet", help="Would replace the core's command."),
    ]


@click.command()
@click.option("--name", "-p", default="you", help="Whom.")
@click.option("--raise", "kind", type=click.Choice(["zoo", "usage", "bug", "interrupt"]))
def greet(name: str, kind: str | None) -> None:
    """Say a greeting, or fail in a chosen way."""
    if kind == "zoo":
        raise zoo.ZooError("it failed:\nturn it off and on")
    if kind == "usage":
        raise zoo.UsageError("ask for something else")
    if kind == "bug":
        raise RuntimeError("a bug of the plugin")
    if kind == "interrupt":
        raise KeyboardInterrupt
    click.echo(f"hello {name}")


number = 3
