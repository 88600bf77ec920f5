"""Finds plugins, decides which to load, and loads each one alone.

A plugin is an entry point of the group ``zoo``, or a file named in ``ZOO_EXTRA_PLUGINS``.
Nothing that a plugin does wrong reaches another: each is imported, asked and checked within
its own ``try``, and contributes all that it offers or nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import pluggy

from zoo import hookspecs
from zoo.config import env_flag, env_names, say
from zoo.distributions import entry_points, normalized
from zoo.errors import PluginError
from zoo.names import PLUGIN_NAME, closest, natural_key, one_line
from zoo.specs import (
    PLUGIN_API,
    Architecture,
    Augmentation,
    Catalog,
    Command,
    Dataset,
    Loss,
    Spec,
)
from zoo.validation import Mistake, check_spec

GROUP = "zoo"
CORE_DISTRIBUTION = "zoo-vision"

HOOKS: dict[str, tuple[type, ...]] = {
    "architectures": (Architecture, Catalog),
    "augmentations": (Augmentation,),
    "losses": (Loss,),
    "datasets": (Dataset,),
    "commands": (Command,),
}
"""Kind of contribution -> what its hook ``zoo_KIND`` may return."""

CAUGHT = (Exception, SystemExit)
"""What a plugin may raise without ending the program. ``KeyboardInterrupt`` is the user's."""


@dataclass(slots=True)
class Plugin:
    """A plugin that was found, whether it works or not.

    Attributes:
        name: the entry point's name, or the stem of the file.
        distribution, version: of the installed package; ``None`` for a file.
        origin: the entry point's value, or the path of the file.
        state: ``"active"``, ``"blocked"``, ``"incompatible"`` or ``"failed"``.
        stage: what a failed plugin failed at: ``"discovery"``, ``"import"``, ``"hooks"``
            (wrong hooks), ``"call"`` (a hook raised), ``"specs"`` (a hook returned something
            wrong) or ``"catalog"`` (an index could not be built).
        error: one line that says why the plugin is not active.
        load_ms: milliseconds to import the plugin, call its hooks and check the specs.
        imported_torch: whether loading the plugin imported torch; ``None`` where that cannot
            be known, because torch was there before.
        contributes: kind -> number of entries, kinds without entries left out.
        exception: the exception behind ``error``, if there was one.
        specs: kind -> what the hooks returned.
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    origin: str = ""
    state: str = "active"
    stage: str | None = None
    error: str | None = None
    load_ms: float | None = None
    imported_torch: bool | None = None
    contributes: dict[str, int] = field(default_factory=dict)
    exception: BaseException | None = field(default=None, repr=False, compare=False)
    specs: dict[str, list[Spec]] = field(default_factory=dict, repr=False)

    @property
    def described(self) -> str:
        """The plugin with its distribution and version, or its file, for messages."""
        source = f"{self.distribution} {self.version}" if self.distribution else self.origin
        return f"plugin {self.name!r} ({source})"

    def fail(self, stage: str, error: BaseException | str, state: str = "failed") -> None:
        """Withdraw everything that the plugin contributes, and say so in one stderr line.

        Raises:
            PluginError: instead, with ``ZOO_STRICT_PLUGINS=1``.
        """
        self.state, self.stage, self.error = state, stage, _cause(error)
        self.exception = error if isinstance(error, BaseException) else None
        self.contributes, self.specs = {}, {}
        verb = "is incompatible" if state == "incompatible" else f"failed at {stage}"
        complain(f"{self.described} {verb}: {self.error}", self.exception)


def complain(message: str, cause: BaseException | None = None) -> None:
    """Say what is wrong with a plugin, or raise it with ``ZOO_STRICT_PLUGINS=1``."""
    if env_flag("ZOO_STRICT_PLUGINS"):
        raise PluginError(message) from cause
    say(message)


def _cause(error: BaseException | str) -> str:
    """Describe an error in one line, with the place in the plugin that raised it."""
    if isinstance(error, str | Mistake):
        return one_line(error)
    text = one_line(f"{type(error).__name__}: {error}".removesuffix(": "))
    place, frame = "", error.__traceback__
    while frame is not None:
        path = frame.tb_frame.f_code.co_filename
        if _is_foreign(path):
            place = f" ({path}:{frame.tb_lineno})"
        frame = frame.tb_next
    return text + place


def _is_foreign(path: str) -> bool:
    """Return whether code is neither zoo's own nor Python's standard library."""
    if path.startswith("<") or os.path.dirname(path) in (os.path.dirname(__file__), _PLUGGY):
        return False
    return not path.startswith(_STDLIB) or "site-packages" in path


_STDLIB = os.path.dirname(os.__file__)
_PLUGGY = os.path.dirname(pluggy.__file__)


@dataclass(frozen=True, slots=True)
class _Candidate:
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
    for name in only or ():
        if all(candidate.plugin.name != name for candidate in candidates):
            complain(f"ZOO_PLUGINS names {name!r}, but no plugin of that name is installed")
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
            _load(candidate, manager)
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


class _Incompatible(Mistake):
    """The plugin was made for another version of the hooks and specs."""


def _load(candidate: _Candidate, manager: pluggy.PluginManager) -> None:
    """Import a plugin, call its hooks and check what they return, all or nothing."""
    plugin = candidate.plugin
    torch_was_there = "torch" in sys.modules
    specs: dict[str, list[Spec]] = {}
    failure: BaseException | None = None
    stage = "import"
    started = time.perf_counter()
    try:
        # What a plugin prints must not mix with the data that a command writes to stdout.
        with contextlib.redirect_stdout(sys.stderr):
            if not PLUGIN_NAME.fullmatch(plugin.name):
                raise Mistake("a plugin's name is made of ASCII letters, digits, '.', '_' and '-'")
            module = candidate.load()
            stage = "hooks"
            _check_api(module)
            for kind, implementation in _register(module, plugin.name, manager):
                stage = "call"
                specs.setdefault(kind, []).extend(_as_list(kind, implementation.function()))
            stage = "specs"
            for kind, contributed in specs.items():
                check_specs(kind, contributed)
    except CAUGHT as error:
        failure = error
    plugin.load_ms = (time.perf_counter() - started) * 1e3
    plugin.imported_torch = None if torch_was_there else "torch" in sys.modules
    if failure is not None:
        incompatible = isinstance(failure, _Incompatible)
        plugin.fail(stage, failure, state="incompatible" if incompatible else "failed")
        return
    plugin.specs = specs
    plugin.contributes = {kind: len(listed) for kind, listed in specs.items() if listed}


def _check_api(module: object) -> None:
    wanted = getattr(module, "zoo_api", None)
    if wanted is not None and not api_in_range(wanted):
        here = ".".join(map(str, PLUGIN_API))
        raise _Incompatible(f"it was made for plugin API {wanted}, and this zoo has {here}")


_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)\s*")


def api_in_range(wanted: object, api: tuple[int, ...] = PLUGIN_API) -> bool:
    """Return whether ``api`` satisfies every clause of a range as ``">=1,<2"``.

    Raises:
        Mistake: the range cannot be read.
    """
    clauses = wanted.split(",") if isinstance(wanted, str) else [""]
    for clause in clauses:
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise Mistake(f'zoo_api must be a range as ">=1,<2", not {wanted!r}')
        sign, version = match[1], tuple(map(int, match[2].split(".")))
        width = max(len(api), len(version))
        ours = api + (0,) * (width - len(api))
        theirs = version + (0,) * (width - len(version))
        order = (ours > theirs) - (ours < theirs)
        allowed = {">=": (0, 1), "<=": (0, -1), "==": (0,), "!=": (1, -1), ">": (1,), "<": (-1,)}
        if order not in allowed[sign]:
            return False
    return True


def _register(
    module: object, name: str, manager: pluggy.PluginManager
) -> list[tuple[str, pluggy.HookImpl]]:
    """Return the plugin's implementations with their kinds, in the order of the hooks."""
    known = [f"zoo_{kind}" for kind in HOOKS]
    own = getattr(module, "__name__", None)
    for attribute, value in vars(module).items() if hasattr(module, "__dict__") else ():
        if not attribute.startswith("zoo_") or not callable(value) or hasattr(value, "zoo_impl"):
            continue
        if attribute in known:
            raise Mistake(f"{attribute} lacks the decorator @zoo.hookimpl")
        if getattr(value, "__module__", None) == own and (meant := closest(attribute, known, 1)):
            raise Mistake(f"{attribute} looks like a hook without @zoo.hookimpl: {meant[0]}?")
    if (other := manager.get_name(module)) is not None:
        raise Mistake(f"its module is already the plugin {other!r}")
    try:
        manager.register(module, name)
    except pluggy.PluginValidationError as error:
        raise Mistake(one_line(error)) from error
    implementations = []
    for hook in vars(manager.hook).values():
        for implementation in hook.get_hookimpls():
            if implementation.plugin is not module:
                continue
            if implementation.hookwrapper or implementation.wrapper:
                raise Mistake(f"{hook.name} is a hook wrapper: hooks return data, nothing else")
            if hook.name in known:
                implementations.append((hook.name.removeprefix("zoo_"), implementation))
            elif not implementation.optionalhook:
                meant = closest(hook.name, known, 1)
                hint = f"did you mean {meant[0]}?" if meant else "there are " + ", ".join(known)
                raise Mistake(f"there is no hook {hook.name!r}; {hint}")
    order = list(HOOKS)
    return sorted(implementations, key=lambda pair: order.index(pair[0]))


def _as_list(kind: str, returned: Any) -> list[Any]:
    """Return what a hook returned (or yields) as a list."""
    wanted = " and ".join(f"zoo.{cls.__name__}" for cls in HOOKS[kind])
    if isinstance(returned, str | bytes) or not isinstance(returned, Iterable):
        got = "None" if returned is None else f"a {type(returned).__name__}"
        raise Mistake(f"zoo_{kind} must return a list of {wanted}, not {got}")
    return list(returned)


def check_specs(kind: str, specs: list[Any]) -> None:
    """Check the types, the fields and the distinctness of one plugin's specs of one kind.

    Raises:
        Mistake: names the first spec that is wrong, and what is wrong with it.
    """
    seen: set[tuple[str, bool]] = set()
    for spec in specs:
        if not isinstance(spec, Spec) or not isinstance(spec, HOOKS[kind]):
            wanted = " or ".join(f"zoo.{cls.__name__}" for cls in HOOKS[kind])
            raise Mistake(f"zoo_{kind} must return {wanted}, not {one_line(repr(spec), 80)}")
        check_spec(spec)
        key = (spec.name, isinstance(spec, Catalog))
        if key in seen:
            raise Mistake(f"{type(spec).__name__} {spec.name!r} is there twice")
        seen.add(key)
