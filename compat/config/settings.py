"""The configuration: defaults, `config.toml`, the environment; checked at start, frozen afterwards.

Every key is optional. A wrong or unknown key ends the start with one line that names the key and the file (`SettingsError`).
Keys and headers of an upstream that are written `env:NAME` are taken from the environment, so that a configuration file need not hold a
secret. A variable that is missing is passed over where the upstream has other keys; else it ends the start, for what was written down
must not be replaced by something else.

    load_settings(arguments) -> Settings       config.toml, then the environment, then the command line
"""

from __future__ import annotations

import codecs
import difflib
import ipaddress
import re
import socket
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from compat.config.catalog import Model, merge, model_with
from compat.config.sections import PATTERNS, ConfigurationFile, ModelSettings, ServerSettings, TimeoutSettings, UpstreamSettings


class SettingsError(Exception):
    """A configuration that can't be used; the message is one line for the person who wrote it."""


COMMAND = "python app.py"
"""How messages name the program, if nothing else is said; an installed one has a name of its own."""


class Settings(ConfigurationFile, frozen=True):
    """The whole configuration; `source` is the file that was read, `command` how the program was called, for messages.

    `key_variables` are, by upstream, the environment variables that its keys were taken from. `postponed` are the keys whose values in the
    file take effect with the next start, because a gateway that runs can't change them.
    """

    source: str = "the defaults"
    command: str = COMMAND
    key_variables: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    postponed: tuple[str, ...] = ()


FIXED_SECTIONS = ("log", "vault", "responses", "usage", "storage")
FIXED_SERVER_KEYS = ("host", "port", "workers", "max_connections", "shutdown_s", "drain_s")
"""What a gateway that runs can't change: where its state is, and what the server was started with."""


_UPSTREAM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
MIN_SECRET_CHARS = 16
"""Of what signs; a shorter one could be guessed."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t -~\xa1-\xff]*")


def load_settings(
    path: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    *,
    has_keys: bool = False,
    running: Settings | None = None,
    command: str = COMMAND,
) -> Settings:
    """The settings of the file at `path` (none: the defaults) with `env:NAME` values filled in and `overrides` (nested) laid over them.

    `has_keys`: there are client keys besides those of `[keys]`. `running` are the settings that a gateway runs with: what it can't change
    stays as it is there, and the rest is checked together with that.

    Raises `SettingsError`.
    """
    where = str(path) if path else Settings().source
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = msgspec.toml.decode(file_text(path))
        except msgspec.DecodeError as error:
            raise SettingsError(f"{path}: is not valid TOML: {error}.") from error
    document = merge(document, overrides or {})
    try:
        read = msgspec.convert(document, ConfigurationFile)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {_explain(error, document, ConfigurationFile)}") from error
    settings = Settings(**{name: getattr(read, name) for name in read.__struct_fields__}, source=where, command=command)
    if running is not None:
        settings = _beside(settings, running)
    _check(settings, has_keys)
    return _with_environment(settings, environment)


def _beside(wanted: Settings, running: Settings) -> Settings:
    """`wanted`, as far as a gateway that runs with `running` can follow."""
    keys = [name for name in FIXED_SERVER_KEYS if getattr(wanted.server, name) != getattr(running.server, name)]
    sections = [name for name in FIXED_SECTIONS if getattr(wanted, name) != getattr(running, name)]
    server = msgspec.structs.replace(wanted.server, **{name: getattr(running.server, name) for name in keys})
    kept = {name: getattr(running, name) for name in sections}
    return msgspec.structs.replace(
        wanted, server=server, command=running.command, **kept, postponed=(*(f"server.{name}" for name in keys), *sections)
    )


def file_text(path: Path) -> str:
    """A file that a person wrote, in UTF-8, with a byte order mark or without: editors of Windows write one. Raises `SettingsError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: can't be read: {error.strerror}.") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise SettingsError(f"{path}: is UTF-16, as PowerShell writes it: save it as UTF-8 (Set-Content -Encoding utf8).")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}: line {line} is not UTF-8: save the file as UTF-8.") from error


def _explain(error: msgspec.ValidationError, document: Any, kind: Any, *under: str) -> str:
    """What is wrong with the innermost key of `document`, which does not fit the type `kind`; `under` is where it stands in the file."""
    types_of = _types_within(kind)
    entries: Iterable[tuple[Any, Any]] = ()
    if typing.get_origin(kind) is tuple:
        entries = enumerate(document) if isinstance(document, list) else ()
    elif isinstance(document, dict):
        entries = document.items()
    for key, value in entries:
        path = (*under, str(key))
        if None not in types_of and key not in types_of:
            near = difflib.get_close_matches(key, types_of, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(types_of)}."
            return f"unknown key '{'.'.join(path)}'{hint}"
        inner = types_of.get(key, types_of.get(None))
        try:
            msgspec.convert(value, inner)
        except msgspec.ValidationError as fault:
            return _explain(fault, value, inner, *path)
    what, _, at = str(error).partition(" - at `$.")
    path = (*under, *filter(None, [at.rstrip("`")]))
    for pattern, words in PATTERNS.items():
        what = what.replace(f"`str` matching regex {pattern!r}", words)
    return f"key '{'.'.join(path)}': {what}." if path else f"{what}."


def _types_within(kind: Any) -> dict[Any, Any]:
    """Key -> type, of what may be in a value of the type `kind`; `None` stands for every key."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {dict, tuple}:
        return {None: arguments[1 if origin is dict else 0]}
    kinds = arguments if isinstance(kind, types.UnionType) else (kind,)
    tables = [one for one in kinds if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return {field.name: field.type for table in tables for field in msgspec.structs.fields(table)} or {None: Any}


def _check(settings: Settings, has_keys: bool) -> None:
    """What types can't say. Raises `SettingsError`."""
    where = settings.source
    for name, upstream in settings.upstreams.items():
        if not _UPSTREAM_NAME.fullmatch(name):
            raise SettingsError(f"{where}: key 'upstreams.{name}': a name has letters, digits, '.', '_' and '-' only.")
        try:
            timeouts_of(settings, upstream)
        except TypeError as error:
            known = ", ".join(TimeoutSettings.__struct_fields__)
            raise SettingsError(f"{where}: key 'upstreams.{name}.timeouts': the known keys are {known}.") from error
    for model, row in settings.models.items():
        _check_model(model, row, where)
    for name, key in settings.keys.items():
        if key.group and key.group not in settings.groups:
            raise SettingsError(f"{where}: key 'keys.{name}.group': there is no [groups.{key.group}]: add it, or leave the group out.")
    if not _is_host(host := settings.server.host):
        raise SettingsError(f"{where}: key 'server.host': '{host[:100]}' is neither an IP address nor the name of a host.")
    if not settings.keys and not has_keys:
        _check_closed(settings.server, where, settings.command)


def _check_closed(server: ServerSettings, where: str, command: str) -> None:
    """Whether only this machine can reach the gateway. A name of its own says that a proxy or other machines are to call it."""
    keys = f"so client keys are required. Make one with '{command} keys add NAME' (or '--new-key', for [keys.NAME]), or"
    if not is_loopback(server.host):
        raise SettingsError(
            f"{where}: key 'server.host': {server.host} can be reached from other machines, {keys} keep host = \"127.0.0.1\"."
        )
    for name in server.allowed_hosts:
        if not is_loopback(name) and not name.lower().endswith(".localhost"):
            raise SettingsError(
                f"{where}: key 'server.allowed_hosts': behind '{name}' all clients of a proxy look local, {keys} leave it out."
            )


def _check_model(name: str, row: ModelSettings, where: str) -> None:
    for step in row.route:
        target = step if isinstance(step, str) else step.to
        if "/" not in target:
            raise SettingsError(f"{where}: key 'models.{name}.route': '{target}' must be written upstream/model.")
    if row.facts:
        try:
            model_with(name, row.facts)
        except msgspec.ValidationError as error:
            own = {key: value for key, value in row.facts.items() if key != "like"}
            raise SettingsError(f"{where}: {_explain(error, own, Model, 'models', name, 'facts')}") from error


def _with_environment(settings: Settings, environment: Mapping[str, str]) -> Settings:
    def filled(name: str, upstream: UpstreamSettings) -> UpstreamSettings:
        where = f"{settings.source}: key 'upstreams.{name}"
        keys = _keys_of(upstream.api_keys, environment, f"{where}.api_keys'")
        headers = {header: _header_of(header, value, environment, f"{where}.headers'") for header, value in upstream.headers.items()}
        return msgspec.structs.replace(upstream, api_keys=keys, headers=headers)

    variables = {
        name: tuple(key[4:] for key in row.api_keys if key.startswith("env:") and environment.get(key[4:]))
        for name, row in settings.upstreams.items()
    }
    upstreams = {name: filled(name, row) for name, row in settings.upstreams.items()}
    place = f"{settings.source}: key 'sealing.secrets'"
    secrets = _keys_of(settings.sealing.secrets, environment, place)
    if any(len(secret) < MIN_SECRET_CHARS for secret in secrets):
        raise SettingsError(f"{place}: a secret has fewer than {MIN_SECRET_CHARS} characters: `openssl rand -hex 32` makes a good one.")
    sealing = msgspec.structs.replace(settings.sealing, secrets=secrets)
    return msgspec.structs.replace(settings, upstreams=upstreams, key_variables=variables, sealing=sealing)


def _keys_of(written: Iterable[str], environment: Mapping[str, str], where: str) -> tuple[str, ...]:
    keys: list[str] = []
    missing: list[str] = []
    for key in written:
        if not key.startswith("env:"):
            keys.append(_sound_key(key, where))
        elif found := key_list(environment.get(key[4:], ""), where):
            keys += found
        else:
            missing.append(key[4:])
    if missing and not keys:
        raise SettingsError(f"{where}: the environment has no {' and no '.join(missing)}: set it, in .env for example.")
    return tuple(keys)


def key_list(value: str, where: str) -> list[str]:
    """The keys in `value`, separated by commas. `SettingsError`, which begins with `where`, for one that no header can hold."""
    return [_sound_key(key.strip(), where) for key in value.split(",") if key.strip()]


def _sound_key(key: str, where: str) -> str:
    if not key:
        raise SettingsError(f"{where}: a key is empty: write one, or take it out.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"{where}: a key holds characters that can't be sent in a header: copy it again.")
    return key


def _header_of(name: str, written: str, environment: Mapping[str, str], where: str) -> str:
    value = written
    if written.startswith("env:"):
        value = environment.get(written[4:], "").strip()
        if not value:
            raise SettingsError(f"{where}: {name}: the environment has no {written[4:]}: set it, in .env for example.")
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        raise SettingsError(f"{where}: {name!a}: holds characters that can't be sent in a header.")
    return value


def _is_host(host: str) -> bool:
    """Whether a server can listen there: an IP address, also a short one (`0`), or a name, whose last part is no number (RFC
    1123, section 2.1)."""
    if ":" in host:
        try:
            return ipaddress.ip_address(host).version == 6
        except ValueError:
            return False
    if not host.rpartition(".")[2].isdigit():
        return _HOST_NAME.fullmatch(host) is not None
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return _HOST_NAME.fullmatch(host) is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def timeouts_of(settings: Settings, upstream: UpstreamSettings) -> TimeoutSettings:
    """The timeouts of one upstream: its own over those of `[timeouts]`."""
    return msgspec.structs.replace(settings.timeouts, **upstream.timeouts)
