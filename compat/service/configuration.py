"""Reading the configuration where little may be imported: gunicorn's master must not load what gevent has to patch in its workers.

Variables that the watcher sets for a generation:

    OPENAI_COMPAT_CONFIG, OPENAI_COMPAT_ENV_FILE    the configuration it was checked with, so that a worker which is started again
                                                    reads what its siblings have read, whatever became of the files since
    OPENAI_COMPAT_LISTEN_FD                         the listening socket
    OPENAI_COMPAT_GENERATION                        its number
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dotenv
from dotenv.parser import Original, parse_stream

from compat.accounting.key_store import keys_path, read_keys
from compat.config.settings import COMMAND, Settings, SettingsError, file_text, load_settings

CONFIG, ENV_FILE = "config.toml", "env"
"""What the copies of a generation are called."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files a configuration is made of; `config` is `None` where there is none, and none was named.

    `written` are the values of `.env`, `garbage` the numbers of its lines that are not `NAME=value`.
    """

    config: Path | None
    env_file: Path
    environment: Mapping[str, str]
    written: Mapping[str, str] = field(default_factory=dict, repr=False)
    garbage: tuple[int, ...] = ()


def find_sources(base_dir: Path, config: str | None = None, outer: Mapping[str, str] | None = None) -> Sources:
    """Where the configuration is; the environment `outer`, by default that of the process, has `.env` beneath it.

    Raises `SettingsError` for a `.env` that can't be read.
    """
    outer = os.environ if outer is None else outer
    env_file = Path(outer.get("OPENAI_COMPAT_ENV_FILE") or base_dir / ".env")
    written, garbage = read_env_file(env_file)
    environment = {**written, **outer}
    named = config or environment.get("OPENAI_COMPAT_CONFIG")
    path = Path(named) if named else base_dir / "config.toml"
    return Sources(path if named or path.exists() else None, env_file, environment, written, garbage)


def read_env_file(path: Path) -> tuple[Mapping[str, str], tuple[int, ...]]:
    """The values in a file of `NAME=value` lines, none where there is no file, and the numbers of the lines that are something else.

    Raises `SettingsError`.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}, ()
    except OSError as error:
        raise SettingsError(f"{path}: can't be read: {error.strerror}.") from error
    bindings = list(parse_stream(io.StringIO(file_text(path))))
    is_sound = [not one.error and (one.key is None or one.value is not None) for one in bindings]
    text = "".join(one.original.string for one, is_good in zip(bindings, is_sound, strict=True) if is_good)
    values = dotenv.dotenv_values(stream=io.StringIO(text))
    garbage = tuple(_line_of(one.original) for one, is_good in zip(bindings, is_sound, strict=True) if not is_good)
    return {name: value for name, value in values.items() if value is not None}, garbage


def _line_of(original: Original) -> int:
    """The line of a binding, before which there may be empty ones."""
    empty = original.string[: len(original.string) - len(original.string.lstrip())]
    return int(original.line) + empty.count("\n")


def read_configuration(
    base_dir: Path, overrides: Mapping[str, Any], config: str | None = None, command: str = COMMAND
) -> tuple[Settings, Mapping[str, str]]:
    """The settings, and the environment with `.env` beneath it; `command` is how the program was called. Raises `SettingsError`."""
    sources = find_sources(base_dir, config)
    return settings_of(sources, base_dir, overrides, command=command), sources.environment


def settings_of(
    sources: Sources, base_dir: Path, overrides: Mapping[str, Any], running: Settings | None = None, command: str = COMMAND
) -> Settings:
    """The settings of `sources`; `running` and `command` as in `load_settings`. Raises `SettingsError`."""
    has_keys = bool(read_keys(keys_path(base_dir, sources.environment)))
    return load_settings(sources.config, sources.environment, overrides, has_keys=has_keys, running=running, command=command)


def worker_count(settings: Settings, environment: Mapping[str, str]) -> int:
    """`OPENAI_COMPAT_WORKERS`, else `[server] workers`. Raises `SettingsError`."""
    written = environment.get("OPENAI_COMPAT_WORKERS", "")
    if not written:
        return settings.server.workers
    if not written.isascii() or not written.isdigit() or int(written) < 1:
        raise SettingsError(f"the environment: OPENAI_COMPAT_WORKERS must be a number of workers, at least 1, not {written!a}.")
    return int(written)
