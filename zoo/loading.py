"""Loads one plugin alone: imports it, calls its hooks, and checks what they return.

Nothing that a plugin does wrong reaches another: it contributes all that it offers or nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pluggy

from zoo.config import env_flag, say
from zoo.errors import PluginError
from zoo.names import PLUGIN_NAME, closest, one_line
from zoo.specs import (
    PLUGIN_API,
    Architecture,
    Augmentation,
    Backend,
    Catalog,
    Command,
    Dataset,
    Loss,
    Spec,
)
from zoo.validation import Mistake, check_spec

HOOKS: dict[str, tuple[type, ...]] = {
    "architectures": (Architecture, Catalog),
    "augmentations": (Augmentation,),
    "losses": (Loss,),
    "datasets": (Dataset,),
    "backends": (Backend,),
    "commands": (Command,),
}
"""Kind of contribution -> what its hook ``zoo_KIND`` may return."""


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
    try:
        text = one_line(f"{type(error).__name__}: {error}".removesuffix(": "))
    except Exception:  # an exception whose own text fails
        text = type(error).__name__
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


class _Incompatible(Mistake):
    """The plugin was made for another version of the hooks and specs."""


def load_plugin(plugin: Plugin, load: Callable[[], object], manager: pluggy.PluginManager) -> None:
    """Load a plugin, all or nothing, and record what came of it.

    Args:
        load: imports and returns the plugin's module (or other object with hooks).
        manager: knows the hooks, and the plugins loaded before.

    Raises:
        PluginError: with ``ZOO_STRICT_PLUGINS=1``, the plugin failed.
    """
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
            module = load()
            stage = "hooks"
            _check_api(module)
            for kind, implementation in _register(module, plugin.name, manager):
                stage = "call"
                specs.setdefault(kind, []).extend(_as_list(kind, implementation.function()))
            stage = "specs"
            for kind, contributed in specs.items():
                check_specs(kind, contributed)
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException as error:  # SystemExit too, and what plugins derive from BaseException
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
        if getattr(value, "__module__", None) == own and (meant := _meant(attribute, 0.75)):
            raise Mistake(f"{attribute} looks like a hook without @zoo.hookimpl: {meant}?")
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
                meant = _meant(hook.name, 0.5)
                hint = f"did you mean {meant}?" if meant else "there are " + ", ".join(known)
                raise Mistake(f"there is no hook {hook.name!r}; {hint}")
    order = list(HOOKS)
    return sorted(implementations, key=lambda pair: order.index(pair[0]))


def _meant(name: str, likeness: float) -> str | None:
    """Return the hook that a name seems to mean."""
    kinds = closest(name.removeprefix("zoo_"), HOOKS, 1, likeness)
    return f"zoo_{kinds[0]}" if kinds else None


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
