"""Which upstreams there are: rows of the configuration, and rows of the table of kinds whose key is in the environment.

A key of the environment leaves for the address of its own kind only: a row of the configuration that names another address has the keys
that it lists itself, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from compat.config.sections import UpstreamSettings
from compat.config.settings import Settings, SettingsError, key_list, timeouts_of
from compat.protocols.base import WireApi
from compat.upstream.client import Secret, Upstream
from compat.upstream.kinds import LLAMA, UPSTREAM_KINDS, UpstreamKind, speaking
from compat.upstream.pool import origin_of

_APIS: Mapping[str, WireApi] = {"chat": "openai.chat", "responses": "openai.responses", "messages": "anthropic.messages"}
EMBEDDED_KIND = UpstreamKind("embedded", LLAMA, "http://127.0.0.1", local=True, is_lenient=True)
"""The engine on this machine; its address is known once it runs."""


def configured_upstreams(settings: Settings, environment: Mapping[str, str]) -> dict[str, Upstream]:
    """Name -> upstream, the configuration's first. Raises `SettingsError` for an unknown kind or an invalid base URL."""
    found = {name: _from_settings(name, row, settings, environment) for name, row in settings.upstreams.items()}
    for upstream in _from_environment(settings, environment):
        found.setdefault(upstream.name, upstream)
    return found


def local_candidates(settings: Settings, environment: Mapping[str, str], taken: Mapping[str, Upstream]) -> list[Upstream]:
    """Local servers that are worth looking for: kinds that no configured upstream has, or is named after."""
    known = {*taken, *(upstream.kind.name for upstream in taken.values())}
    return [
        Upstream(kind.name, kind, _base_url(kind, environment), timeouts=settings.timeouts)
        for kind in UPSTREAM_KINDS.values()
        if kind.local and kind.name not in known
    ]


def _from_settings(name: str, row: UpstreamSettings, settings: Settings, environment: Mapping[str, str]) -> Upstream:
    kind = UPSTREAM_KINDS.get(row.kind)
    if kind is None:
        raise SettingsError(f"{settings.source}: key 'upstreams.{name}.kind': '{row.kind}' is not one of {', '.join(UPSTREAM_KINDS)}.")
    kinds_url = _base_url(kind, environment)
    if row.wire_api == "messages" and kind.messages_url and kinds_url == kind.base_url:
        kinds_url = kind.messages_url
    base_url = row.base_url.rstrip("/") or kinds_url
    _check_url(base_url, f"{settings.source}: key 'upstreams.{name}.base_url'" if row.base_url else _variable(kind.base_url_variable))
    if row.wire_api:
        kind = speaking(kind, _APIS[row.wire_api], base_url)
    keys = row.api_keys or (_keys(kind, environment) if base_url == kinds_url else ())
    secrets = tuple(Secret(key) for key in keys)
    sources = (settings.key_variables.get(name) or (f"upstreams.{name}.api_keys",)) if row.api_keys else _sources(kind, keys)
    return Upstream(name, kind, base_url, secrets, row.headers, row.models, timeouts_of(settings, row), row.ca_file, sources)


def _from_environment(settings: Settings, environment: Mapping[str, str]) -> Iterator[Upstream]:
    for kind in UPSTREAM_KINDS.values():
        keys = _keys(kind, environment)
        if not keys:
            continue
        base_url = _base_url(kind, environment)
        _check_url(base_url, _variable(kind.base_url_variable))
        secrets = tuple(Secret(key) for key in keys)
        yield Upstream(kind.name, kind, base_url, secrets, timeouts=settings.timeouts, key_sources=_sources(kind, keys))


def _keys(kind: UpstreamKind, environment: Mapping[str, str]) -> list[str]:
    return key_list(environment.get(kind.key_variable, ""), _variable(kind.key_variable)) if kind.key_variable else []


def _sources(kind: UpstreamKind, keys: Sequence[str]) -> tuple[str, ...]:
    return (kind.key_variable,) if keys else ()


def _variable(name: str) -> str:
    return f"environment variable {name}"


def _base_url(kind: UpstreamKind, environment: Mapping[str, str]) -> str:
    return environment.get(kind.base_url_variable, "").rstrip("/") or kind.base_url


def _check_url(url: str, where: str) -> None:
    """`SettingsError`, which begins with `where`, for an address that no request can be sent to, or that holds a secret: it is shown."""
    try:
        if "@" in url.rpartition("://")[2].partition("/")[0]:
            raise ValueError("a URL can't hold a user name or a password; use api_keys or headers")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"{url!a} holds characters that can't be sent")
        origin_of(url)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}.") from error
