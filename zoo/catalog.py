"""Indexes of large catalogs: built once, kept in the user's cache folder, read quickly.

An index is a text file. Its first line is a JSON header that says what the index was built
from and holds a checksum of the rest, so that a stale or damaged file is noticed before it is
used. The second line is a JSON array of ``[name, [tag, ...]]``, and then follows one line for
each architecture: a JSON object of the fields that differ from their defaults. So names are
listed, and one model is created, without reading the fields of a thousand others.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from zoo.config import cache_dir, say
from zoo.distributions import versions
from zoo.names import natural_key
from zoo.specs import PLUGIN_API, Architecture, Catalog, Weights
from zoo.validation import Mistake

KEPT = 8
"""Indexes of one catalog that stay in the cache: environments may differ in versions."""


_DECODER = json.JSONDecoder()


class Row:
    """An architecture in an index: its name, the tags of its weights, and its fields unread."""

    __slots__ = ("line", "name", "tags")

    def __init__(self, name: str, tags: list[str], line: str) -> None:
        self.name = name
        self.tags = tuple(tags)
        self.line = line

    def decode(self) -> Architecture:
        """Build the spec. Arrays become tuples.

        Raises:
            TypeError, ValueError: the line holds something else.
        """
        values = _with_tuples(_DECODER.raw_decode(self.line)[0])
        if "weights" in values:
            values["weights"] = {
                tag: Weights(**_with_tuples(held)) for tag, held in values["weights"].items()
            }
        if "default_kwargs" in values:  # the only field in which sequences may nest
            values["default_kwargs"] = _all_tuples(values["default_kwargs"])
        return Architecture(**values)


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        if type(value) is list:
            values[key] = tuple(value)
    return values


def _all_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_all_tuples, value))
    if isinstance(value, dict):
        return {key: _all_tuples(item) for key, item in value.items()}
    return value


def encode(architecture: Architecture) -> str:
    """Return an architecture as a line of JSON, without the fields that have their default."""
    values = _changed(architecture)
    if architecture.weights:
        values["weights"] = {t: _changed(weights) for t, weights in architecture.weights.items()}
    return json.dumps(values, separators=(",", ":"), allow_nan=False, default=dict)


def _changed(spec: Architecture | Weights) -> dict[str, Any]:
    values = {}
    for field in fields(spec):
        value = getattr(spec, field.name)
        default = {} if field.default_factory is not MISSING else field.default
        if value != default:
            values[field.name] = value
    return values


def load(catalog: Catalog, plugin: str, distribution: str | None, version: str | None) -> list[Row]:
    """Return a catalog's rows in natural order, from the cache or else from its builder.

    Raises:
        Mistake: the builder returned something that it must not.
        Exception: whatever the builder raises.
    """
    key = _key(catalog, plugin, distribution, version)
    digest = zlib.crc32(json.dumps(key).encode())
    path = os.path.join(cache_dir(), "catalogs", f"{plugin}.{catalog.name}.{digest:08x}.index")
    rows = _read(path, key)
    if rows is None:
        with _lock(path):
            rows = _read(path, key)  # another process may have built it while this one waited
            if rows is None:
                body = _build(catalog, plugin)
                _write(path, key, body)
                rows = _rows(body)
    return rows


def _key(
    catalog: Catalog, plugin: str, distribution: str | None, version: str | None
) -> dict[str, Any]:
    """Return all that an index depends on, as a JSON object."""
    # The builder's own file counts too: in an editable install the version stays the same.
    module = catalog.builder.partition(":")[0]
    found = importlib.util.find_spec(module)
    if found is None:
        raise Mistake(f"there is no module {module!r} for the builder of catalog {catalog.name!r}")
    stamp = None
    if found.origin is not None:
        with contextlib.suppress(OSError):
            status = os.stat(found.origin)
            stamp = [status.st_mtime_ns, status.st_size]
    spec_fields = [[field.name for field in fields(cls)] for cls in (Architecture, Weights)]
    return {
        "format": 1,
        "api": list(PLUGIN_API),
        "fields": zlib.crc32(json.dumps(spec_fields).encode()),
        "plugin": plugin,
        "distribution": [distribution, version],
        "builder": [catalog.builder, stamp],
        "depends": versions(catalog.depends),
    }


def _rows(body: bytes) -> list[Row]:
    names, *lines = body.decode().split("\n")
    return [
        Row(name, tags, line) for (name, tags), line in zip(json.loads(names), lines, strict=True)
    ]


def _read(path: str, key: dict[str, Any]) -> list[Row] | None:
    """Return the rows of an index, ``None`` if it is absent, stale, damaged or unreadable."""
    try:
        with open(path, "rb") as file:
            header, _, body = file.read().partition(b"\n")
        head = json.loads(header)
        if head["key"] != key or head["crc32"] != zlib.crc32(body):
            return None
        return _rows(body)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _build(catalog: Catalog, plugin: str) -> bytes:
    """Run the builder and return the body of the index."""
    from zoo.loading import check_specs
    from zoo.registry import load_target

    say(f"indexing {plugin} ...")
    started = time.perf_counter()
    architectures = load_target(catalog.builder)()
    if isinstance(architectures, str) or not hasattr(architectures, "__iter__"):
        raise Mistake(f"{catalog.builder} must return a list of zoo.Architecture")
    architectures = list(architectures)
    if any(isinstance(architecture, Catalog) for architecture in architectures):
        raise Mistake(f"{catalog.builder} must return architectures, not catalogs")
    check_specs("architectures", architectures)
    architectures.sort(key=lambda architecture: natural_key(architecture.name))
    names = [[architecture.name, list(architecture.weights)] for architecture in architectures]
    lines = [json.dumps(names, separators=(",", ":")), *map(encode, architectures)]
    seconds = time.perf_counter() - started
    say(f"indexed {len(architectures):,} models of {plugin} in {seconds:.1f} s")
    return "\n".join(lines).encode()


def _write(path: str, key: dict[str, Any], body: bytes) -> None:
    """Write an index under a temporary name, then rename it; say so where that fails."""
    import glob
    import tempfile

    folder, name = os.path.split(path)
    header = json.dumps({"key": key, "crc32": zlib.crc32(body)}).encode()
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp", delete=False) as file:
            try:
                file.write(header + b"\n" + body)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        say(
            f"cannot keep the index in {folder} ({error.strerror or error}), so it is built anew "
            "each time: set ZOO_CACHE_DIR to a folder that can be written"
        )
        return
    with contextlib.suppress(OSError):
        pattern = os.path.join(glob.escape(folder), f"{name.rsplit('.', 2)[0]}.*.index")
        for old in sorted(glob.glob(pattern), key=os.path.getmtime, reverse=True)[KEPT:]:
            os.unlink(old)


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Let one process at a time build an index, where the folder and the system allow it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            os.makedirs(os.path.dirname(path), exist_ok=True)
            lock = os.path.join(os.path.dirname(path), "lock")
            file = stack.enter_context(open(lock, "a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
