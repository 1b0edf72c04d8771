"""The relay between two real sockets: an upstream's end and a client's end, with a source whose frames are its bytes twice."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from compat.errors import ClientGone, ShuttingDown, UpstreamBroken
from compat.streaming.coalesce import Gathering
from compat.streaming.relay import Bounds, Relay
from compat.wire.sse import KEEP_ALIVE


class FakeExchange:
    """Reads a socket. `buffered` is what left the socket before; `fault` is raised by the read after the last byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffered: list[bytes] = []
        self.fault: Exception | None = None
        self.reads = 0
        sock.settimeout(0)

    @property
    def watchable(self) -> int:
        return self.sock.fileno()

    @property
    def has_more(self) -> bool:
        return bool(self.buffered) or self.fault is not None

    def receive_now(self) -> bytes | None:
        self.reads += 1
        if self.buffered:
            return self.buffered.pop(0)
        if self.fault is not None:
            raise self.fault
        try:
            return self.sock.recv(65536)
        except BlockingIOError:
            return None


class FakeOutlet:
    """Writes to a socket, each piece of frames between brackets."""

    patience_s = 60.0

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pieces: list[bytes] = []
        sock.settimeout(5)

    def descriptor(self) -> int:
        return self.sock.fileno()

    def send_frames(self, frames: bytes) -> bytes:
        self.pieces.append(frames)
        return self.send(b"[%s]" % frames)

    def send(self, data: bytes) -> bytes:
        try:
            return data[self.sock.send(data, 0, 0.0) :]  # gevent's, which takes a time-out
        except BlockingIOError:
            return data

    def send_all(self, data: bytes) -> None:
        self.sock.sendall(data)


class Doubling:
    """Frames are each byte twice; `stop` in the data ends the flow, `quiet` bytes have no frames."""

    def __init__(self) -> None:
        self.is_flowing = True

    def take(self, data: bytes) -> bytes:
        if b"!" in data:
            self.is_flowing = False
        return data.replace(b"-", b"") * 2


class Pair:
    """Both ends of a relay that runs in a greenlet of its own; `client` and `upstream` are the outer ends."""

    def __init__(self, **bounds: Any) -> None:
        self.upstream, ours = socket.socketpair()
        self.client, theirs = socket.socketpair()
        self.exchange, self.outlet, self.source = FakeExchange(ours), FakeOutlet(theirs), Doubling()
        self.noted: list[bytes] = []
        self.bounds = Bounds(**{"heartbeat_s": 60, "silence_s": 60, "heartbeat": KEEP_ALIVE, **bounds})
        self.client.settimeout(5)

    def start(self) -> Any:
        clock = time.monotonic
        self.relay = Relay(self.exchange, self.outlet, self.source, self.noted.append, clock, self.bounds, Gathering(0.0))
        self.greenlet = gevent.spawn(self.relay.run)
        gevent.sleep(0)
        return self

    def result(self) -> bool:
        has_ended: bool = self.greenlet.get(timeout=5)
        return has_ended

    def received(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.client.recv(size - len(data))
        return data

    def close(self) -> None:
        for sock in (self.upstream, self.client, self.exchange.sock, self.outlet.sock):
            sock.close()


@pytest.fixture
def make_pair() -> Iterator[Any]:
    pairs: list[Pair] = []

    def make(**bounds: Any) -> Pair:
        pairs.append(Pair(**bounds))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.close()


def test_what_the_upstream_sends_reaches_the_client_while_the_greenlet_sleeps(make_pair: Any) -> None:
    pair = make_pair().start()
    for piece in (b"ab", b"c"):
        pair.upstream.sendall(piece)
        expected = b"[%s]" % (piece * 2)
        assert pair.received(len(expected)) == expected
    assert not pair.greenlet.ready()
    pair.upstream.close()
    assert pair.result() is True
    assert b"".join(pair.noted) == b"ababcc"
    assert pair.relay.left == b""


def test_bytes_without_frames_send_nothing_and_count_as_a_sign_of_life(make_pair: Any) -> None:
    pair = make_pair(silence_s=0.3).start()
    begun_s = time.monotonic()
    for _ in range(4):
        pair.upstream.sendall(b"-")
        gevent.sleep(0.15)
    assert not pair.greenlet.ready()
    assert pair.result() is False
    assert time.monotonic() - begun_s > 0.6
    assert pair.noted == []


def test_a_stream_that_stops_flowing_leaves_its_frames_to_the_generator(make_pair: Any) -> None:
    pair = make_pair().start()
    pair.upstream.sendall(b"a!")
    assert pair.result() is False
    assert pair.relay.left == b"a!a!"
    assert pair.noted == []


def test_silence_gets_heartbeats_and_ends_the_relay(make_pair: Any) -> None:
    pair = make_pair(heartbeat_s=0.05, silence_s=0.3).start()
    beat = b"[%s]" % KEEP_ALIVE
    assert pair.received(3 * len(beat)) == 3 * beat
    assert pair.result() is False
    assert time.monotonic() - pair.relay.last_data_s >= 0.3
    assert 3 <= len(pair.outlet.pieces) <= 6
    assert b"".join(pair.noted) == KEEP_ALIVE * len(pair.outlet.pieces)


def test_the_end_of_the_calls_time_ends_the_relay_of_a_busy_stream(make_pair: Any) -> None:
    pair = make_pair(deadline_s=time.monotonic() + 0.2).start()

    def talk() -> None:
        while not pair.greenlet.ready():
            pair.upstream.sendall(b"a")
            gevent.sleep(0.01)

    talker = gevent.spawn(talk)
    assert pair.result() is False
    talker.join()


def test_a_client_that_does_not_read_stops_the_reading_and_loses_nothing(make_pair: Any) -> None:
    pair = make_pair().start()
    pair.upstream.settimeout(30)
    size = 3_000_000
    sender = gevent.spawn(pair.upstream.sendall, b"x" * size)
    gevent.sleep(0.2)
    reads = pair.exchange.reads
    gevent.sleep(0.2)
    assert pair.exchange.reads == reads, "nobody reads what nobody takes"
    assert not sender.ready()
    got: list[bytes] = []
    while sum(map(len, got)) < 2 * size + 2 * len(pair.outlet.pieces) or sum(map(len, pair.outlet.pieces)) < 2 * size:
        got.append(pair.client.recv(1 << 20))
    sender.join()
    pieces = b"".join(got).split(b"][")
    assert [len(piece.strip(b"[]")) for piece in pieces] == [len(frames) for frames in pair.outlet.pieces]
    assert not pair.greenlet.ready()


def test_an_upstream_that_nobody_reads_from_is_not_silent(make_pair: Any) -> None:
    pair = make_pair(silence_s=0.2).start()
    pair.upstream.settimeout(30)
    sender = gevent.spawn(pair.upstream.sendall, b"x" * 3_000_000)
    gevent.sleep(0.5)
    assert not pair.greenlet.ready()
    while not sender.ready():
        pair.client.recv(1 << 20)
    assert not pair.greenlet.ready()
    while not pair.greenlet.ready():  # now it is
        with gevent.Timeout(0.05, False):
            pair.client.recv(1 << 20)
    assert pair.result() is False


def test_a_client_that_reads_again_gets_heartbeats_again(make_pair: Any) -> None:
    pair = make_pair(heartbeat_s=0.1).start()
    pair.upstream.settimeout(30)
    sender = gevent.spawn(pair.upstream.sendall, b"x" * 3_000_000)
    gevent.sleep(0.3)
    assert KEEP_ALIVE not in pair.outlet.pieces, "nothing is put between the pieces of a frame"
    got = b""
    while not got.endswith(b"[%s]" % KEEP_ALIVE):
        got = got[-100:] + pair.client.recv(1 << 20)
    sender.join()


def test_what_is_unsent_goes_out_before_the_generator_goes_on(make_pair: Any) -> None:
    pair = make_pair().start()
    pair.upstream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    pair.upstream.settimeout(5)
    sender = gevent.spawn(pair.upstream.sendall, b"x" * 1_000_000)
    gevent.sleep(0.1)
    pair.greenlet.kill(ShuttingDown("The gateway is shutting down."), block=False)
    gevent.sleep(0.05)
    assert not pair.greenlet.ready()
    got = b""
    while not pair.greenlet.ready():
        with gevent.Timeout(0.2, False):
            got += pair.client.recv(1 << 20)
    with pytest.raises(ShuttingDown):
        pair.result()
    pair.outlet.sock.close()
    while rest := pair.client.recv(1 << 20):
        got += rest
    assert got == b"".join(b"[%s]" % frames for frames in pair.outlet.pieces)
    sender.kill()


def test_a_client_that_takes_nothing_for_too_long_is_gone(make_pair: Any) -> None:
    pair = make_pair()
    pair.outlet.patience_s = 0.2
    pair.start()
    pair.upstream.settimeout(5)
    sender = gevent.spawn(pair.upstream.sendall, b"x" * 8_000_000)
    with pytest.raises(ClientGone):
        pair.result()
    sender.kill()


@pytest.mark.parametrize("by_throwing", [False, True], ids=["by the write", "by the watch"])
def test_a_client_that_leaves_ends_the_relay(make_pair: Any, by_throwing: bool) -> None:
    pair = make_pair().start()
    if by_throwing:
        pair.greenlet.kill(ClientGone, block=False)
    else:
        pair.client.close()
        pair.upstream.sendall(b"a")
    with pytest.raises(ClientGone):
        pair.result()
    reads = pair.exchange.reads
    pair.upstream.sendall(b"b")
    gevent.sleep(0.05)
    assert pair.exchange.reads == reads, "nothing is watched any more"


def test_a_fault_of_the_upstream_is_raised_after_what_came_before_it_was_sent(make_pair: Any) -> None:
    pair = make_pair().start()
    pair.exchange.buffered = [b"a", b"b"]
    pair.exchange.fault = UpstreamBroken("The connection broke.")
    pair.upstream.sendall(b"-")
    with pytest.raises(UpstreamBroken):
        pair.result()
    assert pair.received(6) == b"[aabb]"


def test_a_fault_of_ours_is_raised_in_the_greenlet_and_hangs_nobody(make_pair: Any) -> None:
    pair = make_pair()

    def fail(_data: bytes) -> bytes:
        raise ZeroDivisionError

    pair.source.take = fail
    pair.start()
    pair.upstream.sendall(b"a")
    with pytest.raises(ZeroDivisionError):
        pair.result()


def test_bytes_at_hand_are_sent_in_one_piece_and_do_not_wait_for_the_socket(make_pair: Any) -> None:
    pair = make_pair()
    pair.exchange.buffered = [b"a", b"b", b"c"]
    pair.start()
    assert pair.received(8) == b"[aabbcc]"


def test_a_connection_that_always_has_more_lets_others_in_between(make_pair: Any) -> None:
    pair = make_pair()
    pair.exchange.buffered = [b"a"] * 40
    pair.start()
    assert pair.received(80 + 2 * 8).count(b"aa") == 40
    assert len(pair.outlet.pieces) == 8, "five reads a turn"


def test_the_end_behind_bytes_at_hand_is_not_lost(make_pair: Any) -> None:
    pair = make_pair()
    pair.exchange.buffered = [b"a", b""]
    pair.start()
    assert pair.result() is True
    assert pair.relay.left == b"aa"


def test_bytes_without_frames_before_a_fault_send_nothing(make_pair: Any) -> None:
    """A chunk of no bytes would be the end of the answer's body."""
    pair = make_pair()
    pair.exchange.buffered = [b"-", b"--"]
    pair.exchange.fault = UpstreamBroken("cut")
    pair.start()
    with pytest.raises(UpstreamBroken):
        pair.result()
    assert pair.outlet.pieces == []
