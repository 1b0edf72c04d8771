"""`python app.py doctor`: one page with everything that is wrong, and what to do about it. It spends no tokens.

    examine(gateway, surroundings) -> findings, the worst first

Each part of the page is a function of the table `_PARTS`: keys, upstreams, models, Redis, search, disk, port, clients.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compat.calls.gateway import Gateway
from compat.check import exposed_keys, redis_fault
from compat.config.settings import is_loopback
from compat.endpoints.health import named_routes
from compat.errors import GatewayError
from compat.routing.own_address import OwnAddress
from compat.service.health import ask_health
from compat.service.listener import local_url
from compat.setup.clients import clients
from compat.setup.command import ANY_KEY, gateway_url
from compat.setup.files import PLACES
from compat.setup.look import LOOKED_AT, Look, look_of
from compat.upstream.pool import origin_of
from compat.writable import write_faults

LEAST_FREE_BYTES = 256 * 1024 * 1024
_SEVERITIES = ("error", "warning", "note")
_CONNECT_S = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong (`error`), will be (`warning`), or is good to know."""

    severity: Literal["error", "warning", "note"]
    message: str

    def __str__(self) -> str:
        return f"{self.severity.upper():<8} {self.message}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a gateway: its folder, the environment with `.env`, the user's home, and what it writes where (`written_places`)."""

    base_dir: Path
    environment: Mapping[str, str]
    home: Path
    places: Mapping[str, Path]
    config: str | None = None


def doctor(gateway: Gateway, around: Surroundings, say: Callable[[str], None]) -> bool:
    """Say where each name goes, and everything that is wrong; false when an action is needed."""
    findings = examine(gateway, around)
    for name, words in named_routes(gateway).items():
        say(f"{name} -> {words}")
    for finding in findings:
        say(str(finding))
    is_good = not any(finding.severity == "error" for finding in findings)
    say("All is well." if not findings else "No action is needed." if is_good else "Action is needed.")
    return is_good


def examine(gateway: Gateway, around: Surroundings) -> list[Finding]:
    """Everything that is wrong, the worst first. Asks each upstream for its list of models."""
    if gateway.settings.discovery.enabled:
        gateway.discovery.leave_out(_own(gateway).has)
        gateway.discovery.refresh_local()
        gateway.discovery.refresh_configured()
    found = [finding for part in _PARTS for finding in part(gateway, around)]
    return sorted(found, key=lambda finding: _SEVERITIES.index(finding.severity))


def _keys(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    for warning in exposed_keys(gateway, around.base_dir, around.environment, around.config):
        yield Finding("warning", warning)


def _upstreams(gateway: Gateway, _: Surroundings) -> Iterator[Finding]:
    for fault in _own(gateway).faults(gateway.router.upstreams.values(), gateway.settings):
        yield Finding("error", fault)
    for upstream, state in gateway.discovery.states.items():
        if state.state == "failing":
            yield Finding("note", f"{upstream} did not list its models: {state.detail}")
    if not gateway.router.upstreams and gateway.engine is None:
        yield Finding("error", "No upstream is configured, and the embedded model is off: set a key (see .env.example).")
    elif not gateway.router.upstreams and gateway.engine is not None and (fault := gateway.engine.fault()):
        yield Finding("error", f"No upstream is configured, and the embedded model can't be used: {fault}")


def _models(gateway: Gateway, _: Surroundings) -> Iterator[Finding]:
    for found in gateway.doctor.examine().findings:
        yield Finding(found.severity, found.message)


def _redis(gateway: Gateway, _: Surroundings) -> Iterator[Finding]:
    url = gateway.settings.storage.redis_url
    if url and (fault := redis_fault(url)):
        yield Finding("error", f"{fault[:1].upper()}{fault[1:]}: start it, or correct its address. Until then nothing is shared.")


def _search(gateway: Gateway, _: Surroundings) -> Iterator[Finding]:
    """Whether the search endpoint finds something; one search is made."""
    try:
        if gateway.search is not None:
            gateway.search("openai-compat")
    except GatewayError as error:
        yield Finding("warning", f"Clients can't search: {error} Start the search endpoint, or correct search.url.")


def _disk(_: Gateway, around: Surroundings) -> Iterator[Finding]:
    low: set[Path] = set()
    for name, fault in write_faults(around.places).items():
        words = f"{name}: {around.places[name]} can't be written: {fault}."
        yield Finding("error", f"{words} Make it writable, or name another place in the configuration.")
    for name, path in around.places.items():
        folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(folder).free
            if free < LEAST_FREE_BYTES and folder not in low:
                low.add(folder)
                yield Finding("warning", f"{name}: only {free // 2**20} MB are free at {folder}; make room for logs and data.")


def _port(gateway: Gateway, _: Surroundings) -> Iterator[Finding]:
    """Whether the port is this gateway's to take, or one answers there already."""
    server = gateway.settings.server
    url = local_url(server.host, server.port)
    if _somebody_listens(url) and not ask_health(url).is_well:
        yield Finding("error", f"Another program has the port {server.port} of {server.host}: stop it, or choose another with --port.")


def _somebody_listens(url: str) -> bool:
    origin = origin_of(url)
    try:
        socket.create_connection((origin.host, origin.port), _CONNECT_S).close()
    except OSError:
        return False
    return True


def _clients(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    broken: set[Path] = set()
    callers: list[str] = []
    for client in LOOKED_AT:
        title, place = clients()[client].title, PLACES[client](around.environment, around.home)
        try:
            found = look_of(client, around.environment, around.home)
        except (OSError, ValueError) as error:
            if place not in broken:  # one file may be two clients'
                yield Finding("warning", f"{title}: its configuration can't be read: {error}.")
            broken.add(place)
            continue
        if found is not None:
            path, look = found
            callers += [title] if _is_own(gateway, look.base_url) else []
            for words in client_faults(gateway, look):
                yield Finding("warning", f"{title} ({path}) {words}: run `{gateway.settings.command} setup {client}` again.")
    server, command = gateway.settings.server, gateway.settings.command
    if callers and not _somebody_listens(local_url(server.host, server.port)):
        yield Finding(
            "note", f"No gateway listens on port {server.port}, which the settings of {', '.join(callers)} name: start it with `{command}`."
        )


def client_faults(gateway: Gateway, look: Look) -> Iterator[str]:
    """What is wrong with a client's settings for this gateway.

    Where they name another one, its keys and models are not judged; on this machine, whether it is there.
    """
    try:
        root = gateway_url(look.base_url)
    except ValueError:
        yield f"calls {look.base_url[:100]!r}, which is not an address"
        return
    if not _is_own(gateway, root):
        origin = origin_of(root)
        if is_loopback(origin.host) and not _somebody_listens(root):
            yield f"calls port {origin.port} of this machine, where nobody listens; this gateway has port {gateway.settings.server.port}"
        return
    if look.key is not None and gateway.keys.are_required and not gateway.keys.admits(f"Bearer {look.key}"):
        yield "sends a key that is not accepted" if look.key not in {"", ANY_KEY} else "sends no client key, and one is needed"
    unknown = [name for name in look.models if not _is_known(gateway, name)]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        yield f"names a model that is not offered, '{unknown[0][:100]}'{more}"


def _own(gateway: Gateway) -> OwnAddress:
    return OwnAddress([(gateway.settings.server.host, gateway.settings.server.port)])


def _is_own(gateway: Gateway, url: str) -> bool:
    """Whether a client's address is this gateway's."""
    server = gateway.settings.server
    hosts = {"127.0.0.1", "localhost", "::1", *(host.lower() for host in (server.host, *server.allowed_hosts))}
    with contextlib.suppress(ValueError):
        where = urllib.parse.urlsplit(gateway_url(url))
        return where.hostname in hosts and (where.scheme, where.port or 80, where.path) == ("http", server.port, "/v1")
    return False


def _is_known(gateway: Gateway, name: str) -> bool:
    try:
        gateway.router.resolve(name)
    except GatewayError:
        return False
    return True


_PARTS: tuple[Callable[[Gateway, Surroundings], Iterator[Finding]], ...] = (
    _keys,
    _upstreams,
    _models,
    _redis,
    _search,
    _disk,
    _port,
    _clients,
)
