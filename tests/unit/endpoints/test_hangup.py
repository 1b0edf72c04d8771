"""A client that leaves: its greenlet learns of it wherever it waits, and whatever happens the call is closed once."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest

from compat.endpoints.hangup import ClientWatch, WatchedFrames
from compat.errors import ClientGone

LONG_S = 10


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The gateway's socket and the client's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Work = Callable[[ClientWatch, gevent.event.Event], Any]


class Serving:
    """A greenlet that does `work` for a client; `starts` is set by the work once it waits."""

    def __init__(self, ours: socket.socket | None, work: Work, key: str = "compat.socket") -> None:
        self.starts = gevent.event.Event()

        def serve() -> Any:
            self.watch = ClientWatch({key: ours} if ours is not None else {})
            try:
                return work(self.watch, self.starts)
            except ClientGone:
                return "gone"
            finally:
                self.watch.close()

        self.greenlet = gevent.spawn(serve)
        assert self.starts.wait(LONG_S)

    def result(self) -> Any:
        return self.greenlet.get(timeout=LONG_S)


def wait_under_watch(watch: ClientWatch, starts: gevent.event.Event) -> str:
    with watch:
        starts.set()
        gevent.event.Event().wait(LONG_S)
    return "waited"


@pytest.mark.parametrize("key", ["compat.socket", "gunicorn.socket"])
@pytest.mark.parametrize("leave", ["close", "shutdown"])
def test_a_client_that_leaves_ends_the_wait(pair: tuple[socket.socket, socket.socket], key: str, leave: str) -> None:
    ours, theirs = pair
    serving = Serving(ours, wait_under_watch, key)
    if leave == "close":
        theirs.close()
    else:
        theirs.shutdown(socket.SHUT_WR)
    assert serving.result() == "gone"


def test_a_client_that_resets_ends_the_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        ours.setblocking(False)
        with ours:
            serving = Serving(ours, wait_under_watch)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            theirs.close()
            assert serving.result() == "gone"


def test_bytes_of_a_next_request_are_left_where_they_are(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    told = gevent.event.Event()

    def work(watch: ClientWatch, starts: gevent.event.Event) -> str:
        with watch:
            starts.set()
            told.wait(LONG_S)
        return "done"

    serving = Serving(ours, work)
    theirs.sendall(b"GET / HTTP/1.1")
    for _ in range(3):
        gevent.idle()  # a turn of the event loop, in which the watcher runs
    told.set()
    assert serving.result() == "done"
    assert ours.recv(100) == b"GET / HTTP/1.1"


def leave_between_two_waits(theirs: socket.socket) -> Work:
    """Work that lets the client leave while nothing is watched: as during a write."""

    def work(watch: ClientWatch, starts: gevent.event.Event) -> str:
        with watch:
            starts.set()
        theirs.close()
        while not watch._is_gone:  # what the event loop saw
            gevent.idle()
        with watch:
            return "went on"

    return work


def test_a_client_that_left_while_it_was_written_to_is_noticed_at_the_next_wait(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    assert Serving(ours, leave_between_two_waits(theirs)).result() == "gone"


def test_without_a_socket_nothing_is_watched() -> None:
    def work(watch: ClientWatch, starts: gevent.event.Event) -> str:
        starts.set()
        with watch:
            return "done"

    assert Serving(None, work).result() == "done"


def test_after_the_end_nothing_is_thrown(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair

    def work(watch: ClientWatch, starts: gevent.event.Event) -> str:
        watch.close()
        watch.close()
        with watch:
            starts.set()
            theirs.close()
            gevent.sleep(0)
            gevent.idle()
        return "done"

    assert Serving(ours, work).result() == "done"


class Frames:
    """A call's frames as a generator that notes how it ended."""

    def __init__(self, *frames: bytes) -> None:
        self.ended: list[str] = []
        self.iterator = self._run(frames)

    def _run(self, frames: tuple[bytes, ...]) -> Iterator[bytes]:
        try:
            yield from frames
            self.ended.append("served")
        except GeneratorExit:
            self.ended.append("closed")
            raise
        except ClientGone:
            self.ended.append("gone")
            raise


def test_the_first_frame_comes_first_and_then_the_others() -> None:
    frames = Frames(b"b", b"c")
    watched = WatchedFrames(b"a", frames.iterator, ClientWatch({}))
    assert list(watched) == [b"a", b"b", b"c"]
    watched.close()
    assert frames.ended == ["served"]


def test_frames_that_nobody_takes_are_closed() -> None:
    frames = Frames(b"b", b"c")
    watched = WatchedFrames(b"a", frames.iterator, ClientWatch({}))
    assert [next(watched), next(watched)] == [b"a", b"b"]
    watched.close()
    watched.close()
    assert frames.ended == ["closed"]
    assert list(watched) == []


def test_a_client_that_leaves_ends_its_frames(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ended: list[str] = []

    def work(watch: ClientWatch, starts: gevent.event.Event) -> list[bytes]:
        def wait() -> Iterator[bytes]:
            try:
                starts.set()
                gevent.event.Event().wait(LONG_S)
                yield b"late"
            except ClientGone:
                ended.append("gone")
                raise

        return list(WatchedFrames(b"a", wait(), watch))

    serving = Serving(ours, work)
    theirs.close()
    assert serving.result() == [b"a"]
    assert ended == ["gone"]
    assert serving.watch._watcher is None


def test_a_client_that_left_before_the_next_frame_ends_its_frames_unread(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    frames = Frames(b"b")

    def work(watch: ClientWatch, starts: gevent.event.Event) -> list[bytes]:
        watched = WatchedFrames(b"a", frames.iterator, watch)
        starts.set()
        theirs.close()
        while not watch._is_gone:
            gevent.idle()
        return list(watched)

    assert Serving(ours, work).result() == [b"a"]


class FakeOutlet:
    """Sends a byte as its probe. `is_free`: nobody writes."""

    def __init__(self, ours: socket.socket) -> None:
        self.ours = ours
        self.is_free = True
        self.probes = 0

    def probe(self) -> bool:
        if self.is_free:
            self.probes += 1
            self.ours.send(b"?")
        return self.is_free


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        ours.setblocking(False)
        with ours, theirs:
            yield ours, theirs


def watched(ours: socket.socket, outlet: FakeOutlet, until: gevent.event.Event) -> Any:
    """A greenlet that waits under watch for `until`."""

    def serve() -> str:
        watch = ClientWatch({"compat.socket": ours, "compat.outlet": outlet})
        try:
            with watch:
                until.wait(LONG_S)
        except ClientGone:
            return "gone"
        finally:
            watch.close()
        return "answered"

    return gevent.spawn(serve)


def test_a_client_that_closed_refuses_the_probe(tcp_pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = tcp_pair
    outlet = FakeOutlet(ours)
    greenlet = watched(ours, outlet, gevent.event.Event())
    theirs.close()
    assert greenlet.get(timeout=LONG_S) == "gone"
    assert outlet.probes == 1


def test_a_client_that_ended_its_half_is_probed_once_and_answered(tcp_pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = tcp_pair
    outlet, until = FakeOutlet(ours), gevent.event.Event()
    greenlet = watched(ours, outlet, until)
    theirs.shutdown(socket.SHUT_WR)
    theirs.settimeout(LONG_S)
    assert theirs.recv(1) == b"?"
    gevent.sleep(0.02)  # looks for a refusal, some times
    until.set()
    assert greenlet.get(timeout=LONG_S) == "answered"
    assert outlet.probes == 1


def test_the_probe_waits_until_nobody_writes(tcp_pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = tcp_pair
    outlet = FakeOutlet(ours)
    outlet.is_free = False
    greenlet = watched(ours, outlet, gevent.event.Event())
    theirs.close()
    gevent.sleep(0.02)
    assert not greenlet.ready()
    outlet.is_free = True
    assert greenlet.get(timeout=LONG_S) == "gone"
