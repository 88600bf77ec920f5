"""The user's settings: environment variables, then ``config.toml``, then the defaults."""

from __future__ import annotations

import os
import sys

from zoo.errors import UsageError

DEFAULT_PREFER = ("zoo", "timm")


def env_names(variable: str) -> tuple[str, ...] | None:
    """Return the comma-separated names in an environment variable, ``None`` if it is unset."""
    value = os.environ.get(variable)
    if value is None:
        return None
    return tuple(name for part in value.split(",") if (name := part.strip()))


def env_flag(variable: str) -> bool:
    """Return whether an environment variable is set to anything but ``0``, no or false."""
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "no", "false", "off")


def _xdg(variable: str, default: str) -> str:
    """Return an XDG base folder; the standard says to ignore relative values."""
    value = os.environ.get(variable, "")
    return value if os.path.isabs(value) else os.path.expanduser(default)


# Plain strings, because pathlib takes as long to import as a small command runs.
def cache_dir() -> str:
    """Return the folder for what can be made or downloaded again. It may not exist yet."""
    if value := os.environ.get("ZOO_CACHE_DIR"):
        return os.path.abspath(os.path.expanduser(value))
    return os.path.join(_xdg("XDG_CACHE_HOME", "~/.cache"), "zoo")


def data_dir() -> str:
    """Return the folder in which data sets lie, each in one of its own name. It may not exist."""
    if value := os.environ.get("ZOO_DATA_DIR"):
        return os.path.abspath(os.path.expanduser(value))
    return os.path.join(_xdg("XDG_DATA_HOME", "~/.local/share"), "zoo")


def config_file() -> str:
    """Return the path of the user's ``config.toml``. It may not exist."""
    return os.path.join(_xdg("XDG_CONFIG_HOME", "~/.config"), "zoo", "config.toml")


def prefer() -> tuple[str, ...]:
    """Return the plugins that win a bare name which several offer, the strongest first.

    Raises:
        UsageError: the configuration file is not what it should be.
    """
    if (names := env_names("ZOO_PREFER")) is not None:
        return names
    path = config_file()
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return DEFAULT_PREFER
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    import tomllib

    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    for key in settings:
        if key != "prefer":
            say(f"{path}: there is no setting {key!r}; prefer is the only one")
    value = settings.get("prefer", DEFAULT_PREFER)
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise UsageError(f'{path}: prefer must be a list of plugin names, as ["zoo", "timm"]')
    return tuple(value)


def say(message: str) -> None:
    """Print one line for the user on stderr."""
    if sys.stderr is not None:  # print would take stdout instead, which is for data
        print(f"zoo: {message}", file=sys.stderr, flush=True)
