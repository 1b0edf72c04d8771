"""Identical calls in flight at several gateways share one upstream call through Redis, as at one (`compat/reuse/single_flight.py`).

Every call that can be shared has a flight here, at its own gateway. Its first step is to claim the key:

    the claim is ours       the flight leads: it makes the call. When another gateway wants the answer, a reader like any other
                            hands the frames to a stream in Redis, from the first one on. So the call goes on while anybody reads it.
    it is another's         the flight follows: its frames are those of that stream

Nobody waits for a gateway that is gone: a claim has to be renewed, and so has the wish for an answer. A flight that finds nobody to follow,
before its first frame, makes the call itself; one whose leader is lost later ends with an error. While Redis is gone all flights lead.
A claim or an entry that no gateway can have written counts as a leader that is gone: what a head says becomes headers of an answer.

Keys in Redis, each with an end of its own:

    flight:KEY              the claim: the name of the leading flight
    flight:wanted:NAME      somebody follows that flight
    flight:frames:NAME      its frames, a stream: `head` (the call's headers), `frame`s, `end` or `lost`
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
import gevent.event
import msgspec

from compat.errors import GatewayError, UpstreamBroken
from compat.reuse.single_flight import Reader, SingleFlight, Told
from compat.storage.redis_link import KEY_PREFIX, Link

LEASE_MS = 5000
FRAMES_TTL_MS = 60_000
POLL_S = 0.25
BLOCK_MS = 200
SILENT_ROUNDS = 10
UNWANTED_ROUNDS = 4
WANTED_MS = 15_000
FOLLOWED = 3
"""How many flights are followed, one after the other, before a call is made without a claim."""

MAX_BYTES = 16 * 1024 * 1024
_NAME = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_HEADER_NAME = re.compile(r"x-cache|x-compat-[a-z-]{1,40}|x-ratelimit-[a-z-]{1,40}")
"""The headers that describe how a call was made. Another one could say where the answer ends, or what a proxy is to do with it."""
_HEADER_VALUE = re.compile(r"[ -~]{0,8192}")
_MAX_HEADERS = 64
_PREFIX = f"{KEY_PREFIX}:flight:"
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('pexpire', KEYS[1], ARGV[2]) end return redis.call('exists', KEYS[2])"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


@dataclass(slots=True)
class Led:
    """The call of a flight: this gateway's own, or with a `head`, known before the first frame, that of the flight which is followed."""

    own: Told
    head: Head | None = None

    @property
    def request_id(self) -> str:
        """The id of the call that is made."""
        return self.head.request_id if self.head is not None else self.own.request_id

    def headers(self) -> list[tuple[str, str]]:
        """The headers that say how that call was made."""
        return list(self.head.headers) if self.head is not None else self.own.headers()

    def error_frame(self, error: GatewayError) -> bytes:
        """The frame that ends the answer with an error, in the protocol of both."""
        return self.own.error_frame(error)


class Head(msgspec.Struct, frozen=True):
    """The headers of the leader's call."""

    request_id: str
    headers: list[tuple[str, str]]


class _Lost(Exception):
    """There is nobody to follow."""


def read_head(data: bytes) -> Head:
    """The head in `data`. `ValueError` for what no gateway wrote."""
    try:
        head = msgspec.json.decode(data, type=Head)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    is_sound = all(_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value) for name, value in head.headers)
    if not is_sound or len(head.headers) > _MAX_HEADERS or not _REQUEST_ID.fullmatch(head.request_id):
        raise ValueError("not a head of ours")
    return head


class SharedFlights:
    """Flights over a Redis. Mutable: through `local` only. `client` answers in bytes."""

    def __init__(self, local: SingleFlight, client: Any, link: Link, new_id: Callable[[], str]) -> None:
        self._local = local
        self._client = client
        self._link = link
        self._new_id = new_id

    def __len__(self) -> int:
        return len(self._local)

    def join(self, key: str, leader: Told, frames: Generator[bytes, None, None]) -> Reader:
        """See `SingleFlight.join`."""
        led = Led(leader)
        return self._local.join(key, led, self._frames(key, led, frames))

    def _frames(self, key: str, led: Led, frames: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
        with contextlib.closing(frames):
            name = self._new_id()
            for _ in range(FOLLOWED):
                other = self._claim(key, name)
                if not other:
                    break
                try:
                    yield from self._follow(key, other, led)
                except _Lost:
                    led.head = None
                else:
                    return
            ended = gevent.event.Event()
            gevent.spawn(self._offer, key, name, led, ended)
            try:
                yield from frames
            finally:
                ended.set()

    def _claim(self, key: str, name: str) -> str:
        """The flight to follow; empty where there is none."""

        def claim() -> bytes:
            if self._client.set(_PREFIX + key, name, nx=True, px=LEASE_MS):
                return b""
            return self._client.get(_PREFIX + key) or b""

        name_of_other = self._link.ask(claim) or b""
        if name_of_other and not _NAME.fullmatch(name_of_other):
            self._link.distrust("a claim of a flight")
            return ""
        return name_of_other.decode()

    # Leading.

    def _offer(self, key: str, name: str, led: Led, ended: gevent.event.Event) -> None:
        """Renew the claim for as long as the call runs, and hand the answer over while it is wanted, if it can still be joined."""
        pump: gevent.Greenlet | None = None
        unwanted = 0
        while not ended.wait(POLL_S):
            wanted = self._link.ask(lambda: self._renew(key, name))
            unwanted = 0 if wanted else unwanted + 1
            if pump is not None and unwanted >= UNWANTED_ROUNDS:
                pump.kill()
            if pump is not None and pump.ready():
                pump = None
            if pump is None and key not in self._local:  # too much was said already
                break
            if wanted and pump is None:
                pump = gevent.spawn(self._hand_over, name, led, self._local.reader(key))
        self._link.ask(lambda: self._client.eval(_RELEASE, 1, _PREFIX + key, name))

    def _renew(self, key: str, name: str) -> bool:
        return bool(self._client.eval(_RENEW, 2, _PREFIX + key, f"{_PREFIX}wanted:{name}", name, LEASE_MS))

    def _hand_over(self, name: str, led: Led, reader: Reader) -> None:
        """Write the frames. An error before the first one is the leader's alone: followers try for themselves."""
        size_bytes = 0
        try:
            self._link.ask(lambda: self._client.delete(f"{_PREFIX}frames:{name}"))
            for frame in reader:
                if not size_bytes:
                    self._write(name, b"head", msgspec.json.encode(Head(led.request_id, led.headers())))
                size_bytes += len(frame)
                if size_bytes > MAX_BYTES or not self._write(name, b"frame", frame):
                    self._write(name, b"lost", b"")
                    return
            self._write(name, b"end", b"")
        except GatewayError:
            self._write(name, b"lost", b"")
        finally:
            reader.close()

    def _write(self, name: str, kind: bytes, data: bytes) -> bool:
        """Whether it is written."""

        def write() -> bool:
            with self._client.pipeline(transaction=False) as pipe:
                pipe.xadd(f"{_PREFIX}frames:{name}", {kind: data})
                pipe.pexpire(f"{_PREFIX}frames:{name}", FRAMES_TTL_MS)
                pipe.execute()
            return True

        return self._link.ask(write) is True

    # Following.

    def _follow(self, key: str, name: str, led: Led) -> Iterator[bytes]:
        """The frames of another gateway's flight. Errors: `_Lost` before the first one, `UpstreamBroken` later."""
        size_bytes = 0
        try:
            for kind, data in self._entries(key, name):
                if kind == b"end" and size_bytes:
                    return
                if kind in {b"end", b"lost"}:
                    break
                if kind == b"head" and led.head is None:
                    led.head = read_head(data)
                    continue
                if kind != b"frame" or not data or led.head is None or size_bytes + len(data) > MAX_BYTES:
                    raise ValueError(kind)
                size_bytes += len(data)
                yield data
        except ValueError:  # msgspec's are some: a gateway of another version, or somebody else
            self._link.distrust("entries of a flight")
        finally:  # others who want it say so again at once
            self._link.ask(lambda: self._client.delete(f"{_PREFIX}wanted:{name}"))
        if size_bytes:
            raise UpstreamBroken("The gateway that made this call was lost in the middle of its answer.")
        raise _Lost

    def _entries(self, key: str, name: str) -> Iterator[tuple[bytes, bytes]]:
        """What is in the stream, and what comes; an end without an `end` when nobody leads any more."""
        position, silent = b"0", 0
        while silent < SILENT_ROUNDS:
            read = self._link.ask(partial(self._read, key, name, position))
            if read is None:
                return
            entries, leader = read
            silent = 0 if entries or leader == name.encode() else silent + 1
            for _, fields in entries:
                yield from fields.items()
            position = entries[-1][0] if entries else position

    def _read(self, key: str, name: str, position: bytes) -> tuple[list[tuple[bytes, dict[bytes, bytes]]], bytes | None]:
        """Renew the wish, and wait a moment for what comes after `position`; also who has the claim."""
        stream = f"{_PREFIX}frames:{name}"
        with self._client.pipeline(transaction=False) as pipe:
            pipe.set(f"{_PREFIX}wanted:{name}", b"1", px=WANTED_MS)
            pipe.get(_PREFIX + key)
            leader = pipe.execute()[1]
        found = self._client.xread({stream: position}, block=BLOCK_MS, count=100)
        return (found[0][1] if found else []), leader
