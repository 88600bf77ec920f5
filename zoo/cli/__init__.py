"""The ``zoo`` command. Commands are imported when they run, so that ``--help`` is quick."""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from zoo._version import __version__
from zoo.cli.plugin_options import plugin_options
from zoo.errors import UnknownName, ZooError
from zoo.names import closest, one_line

if TYPE_CHECKING:
    from zoo.registry import Entry

COMMANDS: dict[str, tuple[str, str]] = {
    "list-models": ("zoo.cli.list_models:command", "List models: filter, sort, export."),
    "list-augmentations": ("zoo.cli.list_others:augmentations", "List augmentations."),
    "list-losses": ("zoo.cli.list_others:losses", "List losses."),
    "list-datasets": ("zoo.cli.list_others:datasets", "List data sets."),
    "list-recipes": ("zoo.cli.list_recipes:command", "List recipes for training."),
    "list-backends": ("zoo.cli.list_others:backends", "List engines that run networks."),
    "data": ("zoo.cli.data:command", "Look through a data set: how large, how clean."),
    "info": ("zoo.cli.info:command", "Show all that is known about a model, loss, ..."),
    "predict": ("zoo.cli.predict:command", "Classify images with a pretrained model."),
    "train": ("zoo.cli.train:command", "Train a classifier, or go on with a run."),
    "evaluate": ("zoo.cli.evaluate:command", "Evaluate a model or an ensemble on a data set."),
    "optimize": ("zoo.cli.optimize:command", "Optimize a model for inference, and save it."),
    "plugins": ("zoo.cli.plugins:command", "Show the installed plugins and their state."),
    "ops": ("zoo.cli.ops:command", "Show the native kernels and what this machine runs."),
    "race": ("zoo.cli.race:command", "Race a photograph through every installed engine."),
    "bench": ("zoo.cli.bench:command", "Time native kernels or whole networks beside rivals."),
}
"""The core's own commands: name -> (target, help line). Plugins add theirs by a hook."""


@cache
def _load_own(name: str) -> click.Command:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    # The group's plugin options are understood after the command too, as pytest users expect.
    command.params += plugin_options(hidden=True)
    if isinstance(command, click.Group):
        for part in command.commands.values():
            part.params += plugin_options(hidden=True)
    return command


def _load_plugins(entry: Entry) -> click.Command:
    """Import a plugin's command; whatever goes wrong there is one line that names the plugin."""
    from zoo.registry import load_target

    target = entry.spec.target
    where = f"plugin {entry.plugin!r}: command {entry.spec.name!r} ({target})"
    try:
        command = load_target(target)
    except (Exception, SystemExit) as error:
        reason = one_line(error) or type(error).__name__
        raise ZooError(f"{where} cannot be loaded: {reason}") from error
    if not isinstance(command, click.Command):
        raise ZooError(f"{where} is a {type(command).__name__}, not a click.Command")
    return command


def _plugin_entries() -> dict[str, Entry]:
    """Commands of plugins by the name they are called by: bare where that is unambiguous."""
    from zoo.registry import get_registry

    entries = get_registry().entries("commands")
    bare = [entry.spec.name for entry in entries]
    return {
        entry.name
        if entry.spec.name in COMMANDS or bare.count(entry.spec.name) > 1
        else entry.spec.name: entry
        for entry in entries
    }


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it on the class


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn errors that a user can mend into click's, which prints a line and exits."""
    try:
        yield
    except ZooError as error:
        raise _Failure(one_line(error, 2000), error.exit_code) from error
    except OSError as error:
        # Only what writing to a full or broken disk gives: click deals with a closed pipe, and
        # other errors of this class, of the network for instance, say nothing about the output.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename:
            raise
        # What is left in stdout's buffer would fail again as the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise _Failure(one_line(f"cannot write the output: {error.strerror}"), 1) from error
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise SystemExit(130) from None


class _Group(click.Group):
    """The core's commands from the table above, then the plugins'."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_plugin_entries()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        from zoo.registry import get_registry

        if name in COMMANDS:
            return _load_own(name)
        try:
            return _load_plugins(get_registry().resolve("commands", name))
        except UnknownName:
            return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing:
            close = closest(name, self.list_commands(ctx))
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise click.UsageError(f"no command {name!r}.{hint}", ctx)
        return name, command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands from the table and the specs, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        rows = [
            (name, getattr(entry.spec, "help", "") or f"(plugin {entry.plugin})")
            for name, entry in _plugin_entries().items()
        ]
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _one_line_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line_errors():
            return super().invoke(ctx)


main = _Group(
    name="zoo",
    help="Image-classification models for PyTorch, in which everything is a plugin.",
    params=plugin_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Plugin options are also understood after the command.",
)
click.version_option(__version__, prog_name="zoo", message="%(prog)s %(version)s")(main)
