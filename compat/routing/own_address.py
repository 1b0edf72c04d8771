"""Whether an upstream's address is that of this very gateway, which then would call itself without end.

It happens by itself: `setup openai` prints `export OPENAI_BASE_URL=...` for a client, and a gateway that is started in the same shell takes
the variable for its own upstream. Names are looked up only where the port is that of the listener.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from compat.config.settings import Settings, SettingsError
from compat.routing.discovery import Discovery
from compat.routing.router import Router
from compat.upstream.client import Upstream
from compat.upstream.pool import origin_of

Address = tuple[str, int]
"""A host and a port that are listened on."""


def addresses_of(host: str) -> frozenset[str]:
    """The addresses that a name or address stands for, empty where nobody knows it."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(str(row[4][0]) for row in found)


def is_of_this_machine(address: str) -> bool:
    """Whether an address is one of this machine: a packet to it would come from there. None is sent."""
    if ipaddress.ip_address(address).is_loopback:
        return True
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]) == address
    except OSError:
        return False


class Routing(Protocol):
    """The part of the gateway that is looked at."""

    @property
    def settings(self) -> Settings: ...

    @property
    def router(self) -> Router: ...

    @property
    def discovery(self) -> Discovery: ...


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """The listening sockets of this gateway. `resolve` and `is_here` are the system's, but for tests."""

    listeners: Collection[Address]
    resolve: Callable[[str], Iterable[str]] = addresses_of
    is_here: Callable[[str], bool] = is_of_this_machine

    def has(self, upstream: Upstream) -> bool:
        """Whether a connection to the upstream would end at one of them."""
        origin = origin_of(upstream.base_url)
        hosts = [host for host, port in self.listeners if port == origin.port]
        if not hosts:
            return False
        theirs = self._reached_by(origin.host)
        return any(
            any(self.is_here(address) for address in theirs) if _is_any(host) else not theirs.isdisjoint(self._reached_by(host))
            for host in hosts
        )

    def keep_from(self, gateway: Routing) -> None:
        """See to it that the gateway calls itself neither as a configured upstream (`SettingsError`) nor as a local one."""
        if faults := self.faults(gateway.router.upstreams.values(), gateway.settings):
            raise SettingsError(faults[0])
        gateway.discovery.leave_out(self.has)

    def faults(self, upstreams: Iterable[Upstream], settings: Settings) -> list[str]:
        """A line for each configured upstream that is this gateway."""
        return [_words(upstream, settings) for upstream in upstreams if self.has(upstream)]

    def _reached_by(self, host: str) -> frozenset[str]:
        return frozenset(_plain(address.partition("%")[0]) for address in self.resolve(host))


def _is_any(host: str) -> bool:
    return host in {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound


def _plain(address: str) -> str:
    """An address as it is compared: IPv4 in IPv6 as IPv4, and the unspecified one as where it leads to, the loopback."""
    known = ipaddress.ip_address(address)
    known = getattr(known, "ipv4_mapped", None) or known
    if known.is_unspecified:
        return "127.0.0.1" if known.version == 4 else "::1"
    return str(known)


def _words(upstream: Upstream, settings: Settings) -> str:
    row = settings.upstreams.get(upstream.name)
    if row is not None and row.base_url:
        place = f"{settings.source}: key 'upstreams.{upstream.name}.base_url'"
        return f"{place}: {upstream.base_url} is this gateway itself: give the address of the upstream."
    return (
        f"environment variable {upstream.kind.base_url_variable}: {upstream.base_url} is this gateway itself, which would call itself. "
        "It is for clients; unset it where the gateway starts."
    )
