"""The configuration: defaults, `config.toml`, the environment; checked at start, frozen afterwards.

Every key is optional. A wrong or unknown key ends the start with one line that names the key and the file (`SettingsError`).
A value written `env:NAME` is taken from the environment, so that a configuration file need not hold a secret.

    load_settings(arguments) -> Settings       config.toml, then the environment, then the command line
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from compat.sections import (
    AdmissionSettings,
    AffinitySettings,
    CircuitSettings,
    DiscoverySettings,
    EmbeddedSettings,
    KeySettings,
    LogSettings,
    ModelSettings,
    RescueSettings,
    RetrySettings,
    Section,
    ServerSettings,
    TimeoutSettings,
    UpstreamSettings,
    VaultSettings,
)

LOOPBACK_ADDRESSES = frozenset({"127.0.0.1", "::1", "localhost"})


class SettingsError(Exception):
    """A configuration that can't be used; the message is one line for the person who wrote it."""


class Settings(Section, frozen=True):
    """The whole configuration. `environment` holds the variables that were looked at, `source` the file that was read."""

    server: ServerSettings = ServerSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    upstreams: dict[str, UpstreamSettings] = msgspec.field(default_factory=dict)
    models: dict[str, ModelSettings] = msgspec.field(default_factory=dict)
    retry: RetrySettings = RetrySettings()
    discovery: DiscoverySettings = DiscoverySettings()
    log: LogSettings = LogSettings()
    keys: dict[str, KeySettings] = msgspec.field(default_factory=dict)
    embedded: EmbeddedSettings = EmbeddedSettings()
    vault: VaultSettings = VaultSettings()
    circuit: CircuitSettings = CircuitSettings()
    affinity: AffinitySettings = AffinitySettings()
    concurrency: AdmissionSettings = AdmissionSettings()
    rescue: RescueSettings = RescueSettings()


_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<key>[^`]+)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
_AT = re.compile(r"(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`")
_UPSTREAM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def load_settings(path: Path | None, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of the file at `path` (none: the defaults) with `env:NAME` values filled in and `overrides` (nested) laid over them.

    Raises `SettingsError`.
    """
    where = str(path) if path else "the defaults"
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = msgspec.toml.decode(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"{path}: can't be read: {error.strerror}.") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: is not valid TOML: {error}.") from error
    document = merge(document, overrides or {})
    try:
        settings = msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {_explain(str(error), document)}") from error
    _check(settings, where)
    return _with_environment(settings, environment, where)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, tables merged, neither changed."""
    merged = dict(base)
    for key, value in over.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return merged


def _explain(message: str, document: Mapping[str, Any]) -> str:
    """msgspec's words with the key in the file's own spelling, and the name that was probably meant."""
    if unknown := _UNKNOWN_FIELD.search(message):
        path = _written_path(unknown["path"] or "", document)
        known = _fields_at(path)
        near = difflib.get_close_matches(unknown["key"], known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(known)}." if known else "."
        return f"unknown key '{'.'.join([*path, unknown['key']])}'{hint}"
    if at := _AT.fullmatch(message):
        return f"key '{'.'.join(_written_path(at['path'], document))}': {at['what']}."
    return f"{message}."


def _written_path(path: str, document: Mapping[str, Any]) -> list[str]:
    """`upstreams[...].kind` as keys of the file; `[...]` stands for the first entry, in order, whose value does not fit."""
    parts = re.findall(r"\[\.\.\.\]|\[\d+\]|[^.\[\]]+", path)
    keys: list[str] = []
    here: Any = document
    for position, part in enumerate(parts):
        key = part.strip("[]")
        if part == "[...]" and isinstance(here, Mapping):
            key = _misfit(here, keys, parts[position + 1 :])
        keys.append(key)
        here = here.get(key) if isinstance(here, Mapping) else None
    return keys


def _misfit(table: Mapping[str, Any], path: list[str], _rest: list[str]) -> str:
    kind = _ENTRY_TYPES.get(".".join(path))
    for name, value in table.items():
        try:
            msgspec.convert(value, kind or Any)
        except msgspec.ValidationError:
            return name
    return "..."


_ENTRY_TYPES: Mapping[str, type] = {"upstreams": UpstreamSettings, "models": ModelSettings, "keys": KeySettings}


def _fields_at(path: list[str]) -> list[str]:
    here: Any = Settings
    for part in path:
        if part in _ENTRY_TYPES and here is Settings:
            here = _ENTRY_TYPES[part]
            continue
        fields = {field.name: field.type for field in msgspec.structs.fields(here)}
        if part in fields and isinstance(fields[part], type) and issubclass(fields[part], Section):
            here = fields[part]
    return [field.name for field in msgspec.structs.fields(here)]


def _check(settings: Settings, where: str) -> None:
    """What types can't say. Raises `SettingsError`."""
    for name, upstream in settings.upstreams.items():
        if not _UPSTREAM_NAME.fullmatch(name):
            raise SettingsError(f"{where}: key 'upstreams.{name}': a name has letters, digits, '.', '_' and '-' only.")
        try:
            timeouts_of(settings, upstream)
        except TypeError as error:
            raise SettingsError(f"{where}: key 'upstreams.{name}.timeouts': knows connect_s, first_byte_s and silence_s only.") from error
    for model, row in settings.models.items():
        for step in row.route:
            target = step if isinstance(step, str) else step.to
            if "/" not in target:
                raise SettingsError(f"{where}: key 'models.{model}.route': '{target}' must be written upstream/model.")
    if not is_loopback(settings.server.host) and not settings.keys:
        raise SettingsError(
            f"{where}: key 'server.host': {settings.server.host} can be reached from other machines, so client keys are required. "
            "Make one with 'python app.py --new-key' and add it under [keys.NAME], or keep host = \"127.0.0.1\"."
        )


def _with_environment(settings: Settings, environment: Mapping[str, str], where: str) -> Settings:
    def filled(name: str, upstream: UpstreamSettings) -> UpstreamSettings:
        keys = []
        for key in upstream.api_keys:
            if not key.startswith("env:"):
                keys.append(key)
            elif value := environment.get(key[4:], "").strip():
                keys += [part.strip() for part in value.split(",") if part.strip()]
        for key in keys:
            if not key.isascii() or not key.isprintable() or " " in key:
                raise SettingsError(f"{where}: key 'upstreams.{name}.api_keys': a key holds characters that can't be sent in a header.")
        return msgspec.structs.replace(upstream, api_keys=tuple(keys))

    return msgspec.structs.replace(settings, upstreams={name: filled(name, row) for name, row in settings.upstreams.items()})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    return host in LOOPBACK_ADDRESSES or host.startswith("127.")


def timeouts_of(settings: Settings, upstream: UpstreamSettings) -> TimeoutSettings:
    """The timeouts of one upstream: its own over those of `[timeouts]`."""
    return msgspec.structs.replace(settings.timeouts, **upstream.timeouts)
