"""What the plugins offer, under their names. Imports neither torch nor any model code."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from zoo import catalog
from zoo.config import DEFAULT_PREFER, cache_dir, prefer
from zoo.discovery import check_names, discover
from zoo.errors import AmbiguousName, PluginError, UnknownName, UsageError
from zoo.loading import HOOKS, Plugin
from zoo.names import closest, natural_key, one_line
from zoo.specs import Architecture, Catalog, Spec
from zoo.validation import Mistake, is_target

__all__ = ["KINDS", "Entry", "Plugin", "Registry", "get_registry", "load_target"]

KINDS = tuple(HOOKS)

_NOUNS = {
    "architectures": ("model", "zoo list-models"),
    "augmentations": ("augmentation", "zoo list-augmentations"),
    "losses": ("loss", "zoo list-losses"),
    "datasets": ("data set", "zoo list-datasets"),
    "backends": ("backend", "zoo list-backends"),
    "commands": ("command", "zoo --help"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One thing that a plugin offers.

    Attributes:
        plugin: name of the plugin. bare: name within the plugin.
    """

    plugin: str
    bare: str
    _source: Spec | catalog.Row

    @property
    def name(self) -> str:
        """The canonical name, ``plugin/bare``."""
        return f"{self.plugin}/{self.bare}"

    @property
    def spec(self) -> Any:
        """The spec, of the type that belongs to the entry's kind; built on first use."""
        source = self._source
        if isinstance(source, catalog.Row):
            try:
                source = source.decode()
            except (TypeError, ValueError) as error:
                raise PluginError(
                    f"the index of plugin {self.plugin!r} does not fit at {self.bare!r} "
                    f"({one_line(error)}): delete {cache_dir()}"
                ) from error
            object.__setattr__(self, "_source", source)
        return source

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of an architecture's weights, the default first; read without its spec."""
        source = self._source
        if isinstance(source, catalog.Row):
            return source.tags
        return tuple(source.weights) if isinstance(source, Architecture) else ()


class Registry:
    """The plugins of this process, what they offer, and the names for it.

    Args:
        plugins: as :func:`zoo.discovery.discover` returns them.
        preferred: plugins that win a bare name which several offer, the strongest first.
    """

    def __init__(self, plugins: Iterable[Plugin], preferred: Iterable[str]) -> None:
        self._plugins = list(plugins)
        self._preferred = tuple(preferred)
        self._entries: dict[str, list[Entry]] = {}
        self._by_name: dict[str, dict[str, list[Entry]]] = {}
        self._rows: dict[str, list[catalog.Row]] | None = None
        self._lock = threading.RLock()

    @property
    def plugins(self) -> list[Plugin]:
        """All plugins that were found, in natural order, with their counts complete."""
        self._load_catalogs()
        return list(self._plugins)

    def entries_of(self, kind: str, plugin: str) -> list[Entry]:
        """Return everything of a kind that one plugin offers.

        Raises:
            UnknownName: there is no plugin of that name, or it could not be loaded.
        """
        entries = self.entries(kind)
        known = [found for found in self._plugins if found.name == plugin]
        if not known:
            names = [found.name for found in self._plugins]
            meant = closest(plugin, names, 1)
            hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(names)}"
            raise UnknownName(f"no plugin {plugin!r} is installed; {hint}")
        if all(found.state != "active" for found in known):
            raise UnknownName(f"plugin {plugin!r} is {known[0].state} ({known[0].error})")
        return [entry for entry in entries if entry.plugin == plugin]

    def entries(self, kind: str) -> list[Entry]:
        """Return everything of a kind (one of ``KINDS``) in natural order of its names."""
        if kind not in HOOKS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        with self._lock:
            if kind == "architectures":
                self._load_catalogs()
            if kind not in self._entries:
                self._entries[kind] = [
                    entry for plugin in self._plugins for entry in self._offered(plugin, kind)
                ]
            return list(self._entries[kind])

    def _offered(self, plugin: Plugin, kind: str) -> list[Entry]:
        specs = [s for s in plugin.specs.get(kind, ()) if not isinstance(s, Catalog)]
        offered = [Entry(plugin.name, spec.name, spec) for spec in specs]
        if kind == "architectures" and self._rows is not None:
            offered += [Entry(plugin.name, r.name, r) for r in self._rows.get(plugin.name, ())]
        if specs:  # the rows of a single catalog are in order already
            offered.sort(key=lambda entry: natural_key(entry.bare))
        return offered

    def _load_catalogs(self) -> None:
        """Read or build every index, once; a plugin whose index fails, fails as a whole."""
        with self._lock:
            if self._rows is not None:
                return
            offered: dict[str, list[catalog.Row]] = {}
            for plugin in self._plugins:
                specs = plugin.specs.get("architectures", [])
                catalogs = [spec for spec in specs if isinstance(spec, Catalog)]
                if not catalogs:
                    continue
                try:
                    rows = self._read_catalogs(plugin, catalogs)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    plugin.fail("catalog", error)
                    self._entries.clear()
                    self._by_name.clear()
                else:
                    offered[plugin.name] = rows
                    plugin.contributes["architectures"] = len(specs) - len(catalogs) + len(rows)
            self._rows = offered

    @staticmethod
    def _read_catalogs(plugin: Plugin, catalogs: list[Catalog]) -> list[catalog.Row]:
        rows: list[catalog.Row] = []
        with redirect_stdout(sys.stderr):
            for spec in catalogs:
                rows += catalog.load(spec, plugin.name, plugin.distribution, plugin.version)
        if len(catalogs) > 1:
            rows.sort(key=lambda row: natural_key(row.name))
        names = {s.name for s in plugin.specs["architectures"] if not isinstance(s, Catalog)}
        for row in rows:
            if row.name in names:
                raise Mistake(f"Architecture {row.name!r} is there twice")
            names.add(row.name)
        return rows

    def resolve(self, kind: str, name: str) -> Entry:
        """Return the entry of a kind that a canonical or bare name means.

        Raises:
            UnknownName: no plugin offers it. The message lists what resembles it.
            AmbiguousName: several plugins offer it, and no preference decides.
        """
        found = self._candidates(kind, name)
        if not found:
            raise UnknownName(self._unknown(kind, name))
        return self._choose(kind, name, found)

    def resolve_weights(self, name: str) -> tuple[Entry, str | None]:
        """Return the architecture that ``[plugin/]name[.tag]`` means, and the tag.

        A bare ``name.tag`` means the plugin that has the tag, where only one has it.

        Raises:
            UnknownName: no plugin offers the architecture, or it has no weights of that tag.
            AmbiguousName: several plugins offer it, and no preference decides.
        """
        plugin, slash, rest = name.rpartition("/")
        base, dot, tag = rest.partition(".")
        found = self._candidates("architectures", plugin + slash + base)
        if not dot or not found:
            if not found:
                raise UnknownName(self._unknown("architectures", name))
            return self._choose("architectures", name, found), None
        tagged = [entry for entry in found if tag in entry.tags]
        if tagged:
            return self._choose("architectures", name, tagged), tag
        have = ", ".join(f"{entry.name}.{other}" for entry in found for other in entry.tags)
        raise UnknownName(
            f"there are no weights {name!r}; "
            + (f"there are {have}" if have else f"{found[0].name} has no pretrained weights")
        )

    def _candidates(self, kind: str, name: str) -> list[Entry]:
        plugin, slash, bare = name.rpartition("/")
        entries = self.entries(kind)
        if kind not in self._by_name:
            table: dict[str, list[Entry]] = {}
            for entry in entries:
                table.setdefault(entry.bare, []).append(entry)
            self._by_name[kind] = table
        found = self._by_name[kind].get(bare, [])
        return [entry for entry in found if entry.plugin == plugin] if slash else found

    def _choose(self, kind: str, name: str, found: list[Entry]) -> Entry:
        if len(found) == 1:
            return found[0]
        for preferred in self._preferred:
            for entry in found:
                if entry.plugin == preferred:
                    return entry
        tag = name.partition(".")[1:] if kind == "architectures" else ()
        names = ", ".join(entry.name + "".join(tag) for entry in found)
        raise AmbiguousName(
            f"{name!r} is offered by several plugins: name one of {names}, or set ZOO_PREFER"
        )

    def _unknown(self, kind: str, name: str) -> str:
        """Return the message for a name that no plugin offers."""
        noun, listing = _NOUNS[kind]
        message = f"there is no {noun} {name!r}"
        plugin, slash, bare = name.rpartition("/")
        known = [found for found in self._plugins if found.name == plugin]
        if known and all(found.state != "active" for found in known):
            return f"{message}: plugin {plugin!r} is {known[0].state} ({known[0].error})"
        if slash and not known:
            active = [found.name for found in self._plugins if found.state == "active"]
            message += f": no plugin {plugin!r} is installed (there are {', '.join(active)})"
        resembling: dict[str, str] = {}
        for entry in self.entries(kind):
            if not known or entry.plugin == plugin:
                resembling.setdefault(entry.bare, entry.name)
        if kind == "architectures":
            bare = bare.partition(".")[0]
        meant = [resembling[match] for match in closest(bare, resembling)]
        message += f"; did you mean {', '.join(meant)}?" if meant else f"; see {listing}"
        broken = [
            found.name for found in self._plugins if found.state in ("failed", "incompatible")
        ]
        if broken:
            message += f" (plugins that could not be loaded: {', '.join(dict.fromkeys(broken))})"
        return message


_registry: Registry | None = None
_discovering = False
_discovery_lock = threading.RLock()


def get_registry() -> Registry:
    """Return the registry of this process; the first call finds and loads the plugins.

    Raises:
        UsageError: the user's configuration file cannot be read.
        PluginError: with ``ZOO_STRICT_PLUGINS=1``, a plugin failed; or a plugin called this
            while it was being loaded.
    """
    global _registry, _discovering
    with _discovery_lock:
        if _registry is None:
            if _discovering:
                raise PluginError("a plugin must not ask for names while plugins are being loaded")
            preferred = prefer()
            _discovering = True
            try:
                plugins = discover()
                if preferred is not DEFAULT_PREFER:
                    names = [plugin.name for plugin in plugins]
                    check_names("ZOO_PREFER or prefer in config.toml", preferred, names)
                _registry = Registry(plugins, preferred)
            finally:
                _discovering = False
        return _registry


def load_target(target: str) -> Any:
    """Import what a target ``"package.module:attribute"`` names.

    Raises:
        UsageError: the string is not a target.
        PluginError: the module cannot be imported, or it has no such attribute.
    """
    if not is_target(target):
        raise UsageError(f'{target!r} is not a target of the form "package.module:attribute"')
    module_name, _, path = target.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            one_line(
                f"cannot import {module_name!r} for {target!r}: {type(error).__name__}: {error}"
            )
        ) from error
    for attribute in path.split("."):
        try:
            value = getattr(value, attribute)
        except AttributeError as error:
            raise PluginError(f"{target!r} does not exist: {one_line(error)}") from error
    return value
