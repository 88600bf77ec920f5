"""Indexes of large catalogs: built once, kept in the user's cache folder, read quickly.

An index is a text file of two lines: a JSON header that says what it was built from, and a
JSON array of architectures without the fields that have their default value. The header
holds a checksum of the second line, so that a damaged file is noticed before it is used.
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
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.config import cache_dir, say
from zoo.names import natural_key
from zoo.specs import PLUGIN_API, Architecture, Catalog, Weights
from zoo.validation import Mistake

Row = dict[str, Any]
"""An architecture as it stands in the index; :func:`decode` makes the spec of it."""

KEPT = 8
"""Indexes of one catalog that stay in the cache: environments may differ in versions."""


def encode(architecture: Architecture) -> Row:
    """Return an architecture as a JSON object without the fields that have their default."""
    row = _changed(architecture)
    if architecture.weights:
        row["weights"] = {tag: _changed(weights) for tag, weights in architecture.weights.items()}
    return row


def decode(row: Row) -> Architecture:
    """Return the architecture that a row of an index describes; arrays become tuples."""
    values = {key: _tuples(value) for key, value in row.items() if key != "weights"}
    if "weights" in row:
        values["weights"] = {
            tag: Weights(**{key: _tuples(value) for key, value in weights.items()})
            for tag, weights in row["weights"].items()
        }
    return Architecture(**values)


def _changed(spec: Architecture | Weights) -> Row:
    row = {}
    for field in fields(spec):
        value = getattr(spec, field.name)
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        if value != default:
            row[field.name] = value
    return row


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def load(catalog: Catalog, plugin: str, distribution: str | None, version: str | None) -> list[Row]:
    """Return a catalog's rows in natural order, from the cache or else from its builder.

    Raises:
        Mistake: the builder returned something that it must not.
        Exception: whatever the builder raises.
    """
    key = _key(catalog, plugin, distribution, version)
    digest = zlib.crc32(json.dumps(key).encode())
    path = cache_dir() / "catalogs" / f"{plugin}.{catalog.name}.{digest:08x}.json"
    rows = _read(path, key)
    if rows is None:
        with _lock(path):
            rows = _read(path, key)  # another process may have built it while this one waited
            if rows is None:
                body = _build(catalog, plugin)
                _write(path, key, body)
                rows = json.loads(body)
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
    versions: dict[str, str | None] = {}
    for name in catalog.depends:
        versions[name] = None
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    spec_fields = [[field.name for field in fields(cls)] for cls in (Architecture, Weights)]
    return {
        "format": 1,
        "api": list(PLUGIN_API),
        "fields": zlib.crc32(json.dumps(spec_fields).encode()),
        "plugin": plugin,
        "distribution": [distribution, version],
        "builder": [catalog.builder, stamp],
        "depends": versions,
    }


def _read(path: Path, key: dict[str, Any]) -> list[Row] | None:
    """Return the rows of an index, ``None`` if it is absent, stale, damaged or unreadable."""
    try:
        header, _, body = path.read_bytes().partition(b"\n")
        head = json.loads(header)
        if head["key"] != key or head["crc32"] != zlib.crc32(body):
            return None
        rows: list[Row] = json.loads(body)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rows


def _build(catalog: Catalog, plugin: str) -> bytes:
    """Run the builder and return the body of the index."""
    from zoo.discovery import check_specs
    from zoo.registry import load_target

    say(f"indexing {plugin} ...")
    started = time.perf_counter()
    architectures = load_target(catalog.builder)()
    if not hasattr(architectures, "__iter__"):
        raise Mistake(f"{catalog.builder} must return a list of zoo.Architecture")
    architectures = list(architectures)
    if any(isinstance(architecture, Catalog) for architecture in architectures):
        raise Mistake(f"{catalog.builder} must return architectures, not catalogs")
    check_specs("architectures", architectures)
    architectures.sort(key=lambda architecture: natural_key(architecture.name))
    body = json.dumps(
        [encode(architecture) for architecture in architectures],
        separators=(",", ":"),
        allow_nan=False,
    ).encode()
    seconds = time.perf_counter() - started
    say(f"indexed {len(architectures):,} models of {plugin} in {seconds:.1f} s")
    return body


def _write(path: Path, key: dict[str, Any], body: bytes) -> None:
    """Write an index under a temporary name, then rename it; say so where that fails."""
    import tempfile

    header = json.dumps({"key": key, "crc32": zlib.crc32(body)}).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                file.write(header + b"\n" + body)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        say(
            f"cannot keep the index in {path.parent} ({error.strerror or error}), so it is built "
            "anew each time: set ZOO_CACHE_DIR to a folder that can be written"
        )
        return
    plugin, catalog, *_ = path.name.rsplit(".", 3)
    with contextlib.suppress(OSError):
        kept = sorted(
            path.parent.glob(f"{plugin}.{catalog}.*.json"), key=lambda p: -p.stat().st_mtime
        )
        for old in kept[KEPT:]:
            old.unlink()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time build an index, where the folder and the system allow it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path.with_suffix(".lock"), "a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
