"""The cache of whole answers: off unless asked for, exact, and honest about what it did.

    decision = cache.decide(protocol, envelope, asked)          # asked: the header x-compat-cache: on, off, refresh, or nothing
    key = cache.key(client, deployment, request, protocol)      # the translated request
    kept = cache.lookup(decision, key)                          # decision.verdict is the header x-cache from here on
    protocol.again(kept.said, ...), protocol.replay(...)        # a hit, whole or as a stream
    recording = cache.recording(decision, key, protocol)        # a miss: recording.whole(body), or .feed(frames) ... .ended()

The same question, from the same client, at the same deployment, gets the same answer again; whether it is streamed makes no difference.
Neither looked for nor kept: calls with tools or tool results, for what an agent does next depends on a world that has changed. Never kept:
errors, refusals, answers that were cut short, that call tools, or that hold anything but text (`compat/reuse/whole_answer.py`). A hit costs
nothing, and its usage says so.

Entries are in memory, the least recently used go first, or in Redis; both are bounded in size and in time. What fails is a miss.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from compat.config.sections import CacheSettings
from compat.errors import BadRequest
from compat.protocols.base import TranslatedRequest
from compat.protocols.client_protocol import ClientProtocol
from compat.reuse.whole_answer import Assembly, Kept, kept_of, pack, unpack
from compat.routing.router import Deployment
from compat.storage.redis_link import KEY_PREFIX, Link
from compat.wire.envelope import Envelope

KB = 1024
_TRANSPORT_KEYS = frozenset({"stream", "stream_options"})
_ENTRY_BYTES = 512  # what an entry weighs besides its text


class Shelf(Protocol):
    """Where entries are kept. Nothing here raises."""

    @property
    def entries(self) -> int:
        """How many there are, as far as is known."""
        ...

    @property
    def size_bytes(self) -> int:
        """How much room they take."""
        ...

    @property
    def fault(self) -> str:
        """What is wrong now, for people; empty when all is well."""
        ...

    def get(self, key: str) -> bytes | None:
        """The entry of `key`, unless it is too old."""
        ...

    def put(self, key: str, packed: bytes) -> None:
        """Keep an entry."""
        ...


@dataclass(slots=True)
class Decision:
    """What the cache does for one call. Mutable: `verdict`, the value of the header `x-cache`; empty: nobody asked, nothing to say."""

    verdict: str
    looks: bool = False
    keeps: bool = False


class AnswerCache:
    """Answers on a shelf."""

    def __init__(self, settings: CacheSettings, shelf: Shelf) -> None:
        self._settings = settings
        self.shelf = shelf

    def decide(self, protocol: ClientProtocol, envelope: Envelope, asked: str = "") -> Decision:
        """What to do for a call. `BadRequest` for a header that says neither `on`, `off` nor `refresh`."""
        if protocol.obstacle is None:
            return Decision("")
        wish = asked.strip().lower()
        if wish not in {"", "on", "off", "refresh"}:
            raise BadRequest("The header 'x-compat-cache' is 'on', 'off' or 'refresh'.")
        if wish == "off":
            return Decision("bypass;off")
        if not wish and not self._settings.enabled:
            return Decision("")
        reason = protocol.obstacle(envelope)
        if reason:
            return Decision(f"bypass;{reason}")
        if wish == "refresh":
            return Decision("bypass;refresh", keeps=True)
        return Decision("miss", looks=True, keeps=True)

    def key(self, client: str, deployment: Deployment, request: TranslatedRequest, protocol: ClientProtocol) -> str:
        """Where the answer to a translated request is kept: for this client and this deployment alone, in the words of one wire API."""
        digest = hashlib.blake2b(digest_size=32)
        headers = "".join(f"{name}: {value}\n" for name, value in sorted(request.headers.items()))
        words = (
            client,
            deployment.name,
            deployment.upstream.base_url,
            headers,
            protocol.api,
            request.memory.echo,
            repr(request.memory.stop),
        )
        parts = [part.encode("utf-8", "surrogatepass") for part in words]
        document = Envelope(request.body)
        for name in sorted(document.keys() - _TRANSPORT_KEYS):
            parts += (name.encode("utf-8", "surrogatepass"), document[name])
        for part in parts:
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return digest.hexdigest()

    def lookup(self, decision: Decision, key: str) -> Kept | None:
        """The answer that was kept; the verdict is `hit` then."""
        if not decision.looks:
            return None
        kept = unpack(self.shelf.get(key))
        decision.verdict = "miss" if kept is None else "hit"
        return kept

    def recording(self, decision: Decision, key: str, protocol: ClientProtocol) -> Recording:
        """What takes the answer of a call, and keeps it if it may."""
        return Recording(self.shelf, key, self._settings.max_entry_kb * KB if decision.keeps else 0, protocol)


class Recording:
    """One answer on its way to the shelf: whole, or frame by frame. A stream that was not `ended` is not kept. Mutable: the assembly."""

    def __init__(self, shelf: Shelf, key: str, max_bytes: int, protocol: ClientProtocol) -> None:
        self._shelf = shelf
        self._key = key
        self._max_bytes = max_bytes
        self._protocol = protocol
        self._assembly = Assembly(protocol) if max_bytes else None

    def whole(self, body: bytes) -> None:
        """The whole answer."""
        if self._max_bytes:
            self._keep(kept_of(self._protocol, body))

    def feed(self, frames: bytes) -> None:
        """Frames of a stream, as they go to the client."""
        if self._assembly is not None:
            self._assembly.feed(frames)
            if self._assembly.size_bytes > self._max_bytes:
                self._assembly = None

    def ended(self) -> None:
        """The stream came to its end."""
        if self._assembly is not None:
            self._keep(self._assembly.kept())
            self._assembly = None

    def _keep(self, kept: Kept | None) -> None:
        packed = pack(kept) if kept is not None else b""
        if 0 < len(packed) <= self._max_bytes:
            self._shelf.put(self._key, packed)


class MemoryShelf:
    """Entries of this process. Mutable: all of it; no step of it waits. `clock` is a monotonic one."""

    fault = ""

    def __init__(self, settings: CacheSettings, clock: Callable[[], float]) -> None:
        self._ttl_s = settings.ttl_s
        self._max_bytes = settings.max_mb * KB * KB
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self.size_bytes = 0

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self._entries)

    def get(self, key: str) -> bytes | None:
        """See `Shelf`."""
        found = self._entries.get(key)
        if found is None:
            return None
        if self._clock() >= found[0]:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return found[1]

    def put(self, key: str, packed: bytes) -> None:
        """See `Shelf`."""
        if key in self._entries:
            self._drop(key)
        self._entries[key] = (self._clock() + self._ttl_s, packed)
        self.size_bytes += _ENTRY_BYTES + len(packed)
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        self.size_bytes -= _ENTRY_BYTES + len(self._entries.pop(key)[1])


class RedisShelf:
    """Entries in Redis, which lets them expire and has a `maxmemory` of its own. `later` runs a write: in a greenlet, `gevent.spawn`."""

    entries = 0
    size_bytes = 0

    def __init__(
        self, settings: CacheSettings, client: Any, link: Link, later: Callable[[Callable[[], None]], object] = lambda run: run()
    ) -> None:
        self._client = client
        self._link = link
        self._later = later
        self._ttl_ms = max(1, round(settings.ttl_s * 1000))

    @property
    def fault(self) -> str:
        """See `Shelf`."""
        return self._link.fault

    def get(self, key: str) -> bytes | None:
        """See `Shelf`."""
        return self._link.ask(lambda: self._client.get(_redis_key(key)))

    def put(self, key: str, packed: bytes) -> None:
        """See `Shelf`."""

        def run() -> None:
            self._link.ask(lambda: self._client.set(_redis_key(key), packed, px=self._ttl_ms))

        self._later(run)


def _redis_key(key: str) -> str:
    return f"{KEY_PREFIX}:answer:{key}"
