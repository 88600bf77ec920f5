"""Finds plugins and decides which of them to load.

A plugin is an entry point of the group ``zoo``, or a file named in ``ZOO_EXTRA_PLUGINS``.
Which plugins may load is decided before any of them is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import NamedTuple

import pluggy

from zoo import hookspecs
from zoo.config import env_flag, env_names
from zoo.distributions import entry_points, normalized
from zoo.loading import Plugin, complain, load_plugin
from zoo.names import closest, natural_key
from zoo.validation import Mistake

GROUP = "zoo"
CORE_DISTRIBUTION = "zoo-vision"


class _Candidate(NamedTuple):
    """A plugin before it is imported."""

    plugin: Plugin
    load: Callable[[], object]
    core: bool = False
    file: bool = False


def _installed() -> Iterable[_Candidate]:
    for point in dict.fromkeys(entry_points(GROUP)):
        plugin = Plugin(
            point.name,
            point.distribution or "unknown distribution",
            point.version or "of unknown version",
            point.value,
        )
        core = normalized(point.distribution or "") == CORE_DISTRIBUTION
        yield _Candidate(plugin, partial(_load_entry_point, point.value), core=core)


_ENTRY_POINT = re.compile(r"([\w.]+)\s*(?::\s*([\w.]+))?\s*(?:\[.*\])?")


def _load_entry_point(value: str) -> object:
    match = _ENTRY_POINT.fullmatch(value)
    if match is None:
        raise Mistake(f"its entry point {value!r} is not of the form package.module")
    loaded: object = importlib.import_module(match[1])
    for attribute in filter(None, (match[2] or "").split(".")):
        loaded = getattr(loaded, attribute)
    return loaded


def _files() -> Iterable[_Candidate]:
    paths = os.environ.get("ZOO_EXTRA_PLUGINS", "").split(os.pathsep)
    for path in dict.fromkeys(os.path.abspath(os.path.expanduser(p)) for p in paths if p.strip()):
        name = os.path.basename(path).removesuffix(".py")
        yield _Candidate(Plugin(name, origin=path), partial(_load_file, path), file=True)


def _load_file(path: str) -> ModuleType:
    """Import a plugin file under its stem.

    Its folder joins the end of ``sys.path``: so the plugin's targets can name the file's own
    functions, the file can import its neighbours, and a spawned process finds it again.
    """
    folder, base = os.path.split(path)
    name = base.removesuffix(".py")
    if not os.path.isfile(path):
        raise Mistake("there is no such file")
    if not base.endswith(".py") or not name.isidentifier():
        raise Mistake("a plugin file is named like a Python module, for instance my_plugin.py")
    if folder not in sys.path:
        sys.path.append(folder)
    module = sys.modules.get(name)
    spec = module.__spec__ if module else importlib.util.find_spec(name)
    origin = spec.origin if spec else None
    if origin is None or os.path.realpath(origin) != os.path.realpath(path):
        raise Mistake(f"there is another module {name!r} ({origin}): rename the file")
    return importlib.import_module(name)


def check_names(setting: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Say which names in a setting are no plugin's: a misspelt one would do nothing, silently."""
    for name in given:
        if name not in known:
            meant = closest(name, known, 1)
            hint = f"; did you mean {meant[0]}?" if meant else ""
            complain(f"{setting} names {name!r}, but no plugin of that name is installed{hint}")


def discover() -> list[Plugin]:
    """Find every plugin, load those that the environment admits, and return all by name.

    Raises:
        PluginError: with ``ZOO_STRICT_PLUGINS=1``, for the first plugin that fails.
    """
    candidates = [*_installed(), *_files()]
    candidates.sort(key=lambda c: (natural_key(c.plugin.name + "/"), c.plugin.described))
    only = env_names("ZOO_PLUGINS")
    blocked = env_names("ZOO_BLOCK_PLUGINS") or ()
    core_only = env_flag("ZOO_NO_PLUGINS")
    names = [candidate.plugin.name for candidate in candidates]
    check_names("ZOO_PLUGINS", only or (), names)
    check_names("ZOO_BLOCK_PLUGINS or -p no:NAME", blocked, names)
    admitted: dict[str, list[_Candidate]] = {}
    for candidate in candidates:
        plugin = candidate.plugin
        if plugin.name in blocked:
            plugin.state, plugin.error = "blocked", "ZOO_BLOCK_PLUGINS or -p no:NAME names it"
        elif candidate.file:
            admitted.setdefault(plugin.name, []).append(candidate)
        elif only is not None and plugin.name not in only:
            plugin.state, plugin.error = "blocked", "ZOO_PLUGINS does not name it"
        elif core_only and not candidate.core:
            plugin.state, plugin.error = "blocked", "ZOO_NO_PLUGINS or --no-plugins"
        else:
            admitted.setdefault(plugin.name, []).append(candidate)
    manager = pluggy.PluginManager("zoo")
    manager.add_hookspecs(hookspecs)
    for name, rivals in admitted.items():
        for candidate in _one_of(name, rivals):
            load_plugin(candidate.plugin, candidate.load, manager)
    return [candidate.plugin for candidate in candidates]


def _one_of(name: str, rivals: list[_Candidate]) -> list[_Candidate]:
    """Return the candidates for a plugin name that may load: one, or none.

    The order in which folders are scanned must not decide. So a file that the user names
    replaces an installed plugin, the core's own plugins cannot be replaced by an installed
    one, and of two other distributions with one name neither is loaded.
    """
    for chosen in (
        [candidate for candidate in rivals if candidate.file],
        [candidate for candidate in rivals if candidate.core],
        rivals,
    ):
        if len(chosen) == 1:
            for other in rivals:
                if other is chosen[0]:
                    continue
                if chosen[0].file:
                    other.plugin.state = "blocked"
                    other.plugin.error = f"replaced by {chosen[0].plugin.origin}"
                else:
                    other.plugin.fail("discovery", f"{name!r} is a plugin of zoo itself")
            return chosen
        if chosen:
            break
    for candidate in rivals:
        others = ", ".join(c.plugin.described for c in rivals if c is not candidate)
        candidate.plugin.fail(
            "discovery", f"it has the same name as {others}; uninstall all but one"
        )
    return []
