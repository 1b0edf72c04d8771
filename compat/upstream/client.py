"""One upstream as the pipeline sees it: prepared request heads, one pool per key, keys shared out in turn.

    UpstreamClient.open(upstream, endpoint, body, headers, key) -> Exchange

Keys leave here, in the request to their own upstream, and nowhere else: `Secret` has no readable `repr`, and no error of this module
holds one.
"""

from __future__ import annotations

import itertools
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from compat import __version__
from compat.config.sections import TimeoutSettings
from compat.errors import GatewayError, UpstreamKeyRefused, UpstreamUnreachable
from compat.upstream.http1 import Exchange
from compat.upstream.kinds import UpstreamKind
from compat.upstream.pool import ConnectionPool, origin_of, proxy_headers, request_target
from compat.wire.hops import HOPS_HEADER

USER_AGENT = f"openai-compat/{__version__}"
MIN_SECRET_CHARS = 8
MAX_LANES = 256
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*")
"""A line of a head (RFC 9110, section 5): an invalid one would be several, or break the request."""
_PATH_CHARACTERS = "/:@!$&'()*+,;=~%"


@dataclass(frozen=True, slots=True)
class Secret:
    """A credential; only `reveal()` shows it."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """The credential itself."""
        return self._value


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server that is called. `name` is the user's name for it, `kind` the row it follows; `headers` are added to every request.

    `key_sources` say where the keys were found: names of environment variables or keys of the configuration. `unwanted_fields` are those
    that the service of this kind refuses, at its own address; of another server of the same protocol they are learnt.
    """

    name: str
    kind: UpstreamKind
    base_url: str
    keys: tuple[Secret, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    models: tuple[str, ...] = ()
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    ca_file: str = ""
    key_sources: tuple[str, ...] = ()
    unwanted_fields: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        host, own = (urllib.parse.urlsplit(url).hostname or "" for url in (self.base_url, self.kind.base_url))
        is_own = host == own or host.endswith(f".{own}")
        object.__setattr__(self, "unwanted_fields", self.kind.unwanted_fields if is_own else frozenset())

    def explain(self, error: GatewayError) -> None:
        """Make an error of this upstream fit for the client: without credentials, and a refused key with whose it is."""
        error.redact(self.redact)
        if isinstance(error, UpstreamKeyRefused):
            place = f" ({' or '.join(self.key_sources)})" if self.key_sources else ""
            whose = (
                f"This is about the gateway's own key for {self.name}{place}" if self.keys else f"The gateway has no key for {self.name}"
            )
            error.append(f"- {whose}; it is not about the client's key.")

    def redact(self, text: str) -> str:
        """`text` without this upstream's credentials: some servers quote in an error the key that they were sent."""
        words = " ".join(self.headers.values()).split()
        for secret in (*(key.reveal() for key in self.keys), *words):
            if len(secret) >= MIN_SECRET_CHARS:  # a shorter one is a word like any other
                text = text.replace(secret, "[secret]")
        return text


class Transport(Protocol):
    """How a request reaches an upstream: the seam for tests."""

    def open(self, upstream: Upstream, endpoint: str, body: bytes, headers: Mapping[str, str], key: Secret | None = None) -> Exchange:
        """POST `body` to an endpoint of `upstream`, under `key` or else the next of its keys.

        Errors: `UpstreamUnreachable`, `UpstreamTimeout`.
        """
        ...

    @property
    def idle(self) -> int:
        """How many connections wait for their next request."""
        ...


@dataclass(frozen=True, slots=True)
class _Lane:
    """What is prepared for one upstream and one key: its pool, and the head of a request per endpoint, less what differs per call.
    Mutable: the heads, made on first use where an endpoint has a query."""

    pool: ConnectionPool
    heads: dict[str, bytes] = field(repr=False)


class UpstreamClient:
    """The connections to all upstreams.

    Mutable: the lanes, made on first use and the longest unused first, and the turn of each upstream's keys. The embedded engine has a new
    address and a new key with every start, so what was replaced or is long unused is closed.
    """

    def __init__(self, make_pool: Callable[..., ConnectionPool] = ConnectionPool) -> None:
        self._make_pool = make_pool
        self._lanes: dict[tuple[str, str, Secret | None], _Lane] = {}
        self._turns: dict[str, itertools.count[int]] = {}
        self._opened_before = 0

    def open(self, upstream: Upstream, endpoint: str, body: bytes, headers: Mapping[str, str], key: Secret | None = None) -> Exchange:
        """POST `body` to an endpoint (`openai.chat`, `anthropic.messages?beta=true`) of `upstream`, under `key`; without one the upstream's
        take turns.

        Errors: `UpstreamUnreachable`, `UpstreamTimeout`.
        """
        key = key or self._next_key(upstream)
        lane = self._lane_of(upstream, key)
        shared = _shared(upstream, headers) if headers else {}
        single = upstream.kind.headers
        own = field_lines({name: value for name, value in headers.items() if name not in shared and name not in single})
        if endpoint not in lane.heads:  # with a query, of which there are few
            lane.heads[endpoint] = _head(upstream, endpoint, key)
        if not shared:  # no local name holds the head: reports of crashes may show them
            return lane.pool.open(b"%s%scontent-length: %d\r\n\r\n%s" % (lane.heads[endpoint], own, len(body), body))
        joined = replace(upstream, headers={**upstream.headers, **shared})
        return lane.pool.open(b"%s%scontent-length: %d\r\n\r\n%s" % (_head(joined, endpoint, key), own, len(body), body))

    def close(self) -> None:
        """Close every idle connection."""
        for lane in self._lanes.values():
            lane.pool.close()

    @property
    def idle(self) -> int:
        """See `Transport`."""
        return sum(len(lane.pool) for lane in self._lanes.values())

    @property
    def connections_opened(self) -> int:
        """Connections opened since the start."""
        return self._opened_before + sum(lane.pool.opened for lane in self._lanes.values())

    def _next_key(self, upstream: Upstream) -> Secret | None:
        keys = upstream.keys
        if len(keys) < 2:
            return keys[0] if keys else None
        turn = next(self._turns.setdefault(upstream.name, itertools.count()))
        return keys[turn % len(keys)]

    def _lane_of(self, upstream: Upstream, key: Secret | None) -> _Lane:
        lane_key = (upstream.name, upstream.base_url, key)
        lane = self._lanes.pop(lane_key, None) or self._new_lane(upstream, key)
        self._lanes[lane_key] = lane
        return lane

    def _new_lane(self, upstream: Upstream, key: Secret | None) -> _Lane:
        heads = {endpoint: _head(upstream, endpoint, key) for endpoint in upstream.kind.endpoints}
        pool = self._make_pool(origin_of(upstream.base_url), connect_s=upstream.timeouts.connect_s, ca_file=upstream.ca_file)
        unwanted = [other for other in self._lanes if other[0] == upstream.name and other[1] != upstream.base_url]
        if len(self._lanes) - len(unwanted) >= MAX_LANES:
            unwanted.append(next(other for other in self._lanes if other not in unwanted))
        for other in unwanted:
            dropped = self._lanes.pop(other).pool
            dropped.close()
            self._opened_before += dropped.opened
        return _Lane(pool, heads)


def request_headers(upstream: Upstream, key: Secret | None) -> dict[str, str]:
    """The headers of every request to `upstream`, the credential among them; the user's own win."""
    kind = upstream.kind
    auth = {kind.auth_header: kind.auth_prefix + key.reveal()} if key else {}
    own = {name.lower(): value for name, value in upstream.headers.items()}
    return {"user-agent": USER_AGENT, "accept-encoding": "identity", HOPS_HEADER: "1", **kind.headers, **auth, **own}


def _shared(upstream: Upstream, headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that the call and the head both have: lists (`anthropic-beta`), of which the server gets one, the count of gateways, and what
    the call has otherwise than all of its kind (`anthropic-version`): there the user's own goes first."""
    single = upstream.kind.headers
    own = {name.lower(): value for name, value in upstream.headers.items() if name.lower() in headers}
    joined = {name: value if name in single else f"{value},{headers[name]}" for name, value in own.items()}
    joined |= {name: headers[name] for name, usual in single.items() if name not in own and headers.get(name, usual) != usual}
    return {**joined, HOPS_HEADER: headers[HOPS_HEADER]} if HOPS_HEADER in headers else joined


def _head(upstream: Upstream, endpoint: str, key: Secret | None) -> bytes:
    name, mark, query = endpoint.partition("?")
    origin, path = origin_of(upstream.base_url), upstream.kind.endpoints[name] + mark + query
    base_path = urllib.parse.quote(urllib.parse.urlsplit(upstream.base_url).path.rstrip("/"), safe=_PATH_CHARACTERS)
    headers = {
        "host": origin.netloc,
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        **proxy_headers(origin),
        **request_headers(upstream, key),
    }
    return f"POST {request_target(origin, base_path + path)} HTTP/1.1\r\n".encode("latin-1") + field_lines(headers)


def field_lines(headers: Mapping[str, str]) -> bytes:
    """Headers as the lines of a head. Errors: `UpstreamUnreachable` for one that would be several, or that no head can hold."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    for name, line in zip(headers, lines, strict=True):
        if not _FIELD.fullmatch(line):  # the value is not shown: it may be a key
            raise UpstreamUnreachable(f"The header {name!r} has a value that can't be sent.")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
