"""The single-process server: gevent's WSGI server, made fit for event streams.

What is changed, and why (measured): the listening socket has `TCP_NODELAY`, which accepted ones inherit, and a head leaves together
with the first bytes of its body; else every small answer waits 40 ms for a delayed acknowledgement. The client's socket is put into
the environ, so that a call can notice that its client left. Malformed requests are answered in OpenAI's shape, and a client that
sends its head too slowly is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import http
import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.pywsgi import WSGIHandler, WSGIServer

from compat.calls.gateway import Gateway, Gauges
from compat.endpoints.front import canonical_path
from compat.errors import BadRequest, GatewayError, RequestTimeout, ShuttingDown
from compat.protocols import protocol_at
from compat.serve.open_files import connection_bound
from compat.serve.request_guard import Body, strict_headers
from compat.wire.sse import KEEP_ALIVE

HEAD_TIMEOUT_S = 30.0
IDLE_TIMEOUT_S = 120.0
SEND_TIMEOUT_S = 60.0
"""How long a client may take to read `_SEND_BYTES`."""

_SEND_BYTES = 256 * 1024
_NAMED_OTHERWISE = frozenset({"content-type", "content-length"})
_POLL_S = 0.05
_LAST_WORDS_S = 1.0


_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientOutlet:
    """The client's end of an answer whose head was sent, for `streaming/relay.py`: frames that go past the server's own way of writing.

    Mutable: `_is_chunked`, learnt with the first frames, and `_is_within`: a part of a frame was sent.
    """

    __slots__ = ("_handler", "_is_chunked", "_is_within")

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._is_chunked: bool | None = None
        self._is_within = False

    @property
    def patience_s(self) -> float:
        """How long a client may take nothing."""
        return SEND_TIMEOUT_S

    @property
    def is_leaving(self) -> bool:
        """Whether the server leaves what comes next to others."""
        leaving: bool = self._handler.server.is_leaving
        return leaving

    @property
    def is_busy(self) -> bool:
        """Whether an answer is being made; a connection that was upgraded says so itself."""
        return self._handler.is_busy

    @is_busy.setter
    def is_busy(self, is_busy: bool) -> None:
        self._handler.is_busy = is_busy
        self._handler.idle_since_s = time.monotonic()

    def descriptor(self) -> int:
        """The socket's."""
        number: int = self._handler.socket.fileno()
        return number

    def send_frames(self, frames: bytes) -> bytes:
        """Send frames as a chunk (RFC 9112, section 7.1), or bare to a client of HTTP/1.0; what was not taken. Errors: `OSError`.

        No frames send nothing: a chunk of no bytes is the body's end.
        """
        if not frames:
            return b""
        if self._is_chunked is None:
            self._is_chunked = self._handler.response_use_chunked
        return self.send(b"%x\r\n%s\r\n" % (len(frames), frames) if self._is_chunked else frames)

    def send(self, data: bytes) -> bytes:
        """Send what the socket takes at once; what it did not take. Errors: `OSError`."""
        if owed := self._handler.owed:
            data, self._handler.owed = owed + data, b""
        try:
            sent = self._handler.socket.send(data, 0, 0.0)
        except BlockingIOError:
            sent = 0
        self._is_within = sent < len(data)
        return data[sent:] if self._is_within else b""

    def send_all(self, data: bytes) -> None:
        """Send all of it, as fast as the client reads. Errors: `OSError`."""
        self._is_within = True
        self._handler._sendall(data)
        self._is_within = False

    def probe(self) -> bool:
        """Send what says nothing, which a client that closed its end refuses; whether that could be done. Errors: `OSError`.

        Before the answer that is an interim response (RFC 9110, section 15.2), within a stream a comment. Only while nobody writes.
        """
        handler = self._handler
        if self._is_within:
            return False
        if handler.headers_sent and handler.response_use_chunked:
            probe = b"%x\r\n%s\r\n" % (len(KEEP_ALIVE), KEEP_ALIVE)
        elif not handler.headers_sent and handler.request_version == "HTTP/1.1":
            probe = _CONTINUE
        else:
            return False
        rest = self.send(probe)
        self._is_within = False
        if rest == probe:  # there was no room for it: nothing went out
            return False
        handler.owed = rest
        return True


class Handler(WSGIHandler):  # type: ignore[misc]  # gevent has no types
    """One client's connection, which its server knows. `owed` is what the socket did not take of a probe, and goes before whatever is sent
    next. Mutable: whether a request is being answered, and since when none is."""

    owed = b""
    is_busy = False
    idle_since_s = 0.0
    MessageClass = staticmethod(strict_headers)
    _head_bound: gevent.Timeout | None = None
    _came_with_head = 0

    def handle(self) -> None:
        """Serve the connection's requests, one after the other."""
        self.is_first = True
        self.idle_since_s = time.monotonic()
        connections: set[Handler] = self.server.connections
        connections.add(self)
        try:
            super().handle()
        finally:
            connections.discard(self)

    def handle_one_request(self) -> Any:
        """One request, whose head comes in time."""
        try:
            result = super().handle_one_request()
        finally:
            self._end_head()
        if isinstance(result, tuple) and result[0] == "414":  # the server's own, which says nothing
            return _refusal(BadRequest("The request line is too long.", status=414))
        return result

    def read_requestline(self) -> Any:
        """Wait for a request: shortly for the first one, longer between two. Others come first, so that no busy client is served alone."""
        if not self.is_first:
            gevent.sleep(0)
        self.socket.settimeout(HEAD_TIMEOUT_S if self.is_first else IDLE_TIMEOUT_S)
        self.is_first, self.path = False, None
        begun = self.rfile.peek(1)  # the time of the head begins with its first byte
        head_end = begun.find(b"\r\n\r\n")
        self._came_with_head = len(begun) - head_end - 4
        if head_end < 0:
            self._came_with_head = 0
            self._head_bound = gevent.Timeout.start_new(HEAD_TIMEOUT_S, TimeoutError("the head did not arrive in time"))
        self.socket.settimeout(None)
        return super().read_requestline()

    def _headers(self) -> Iterator[tuple[str, str]]:
        """Header fields by their names in the environ (RFC 3875, section 4.1.18); those with `_` could pass for others."""
        for name, value in self.headers.items:
            if "_" not in name and name not in _NAMED_OTHERWISE:
                yield f"HTTP_{name.replace('-', '_').upper()}", value

    def get_environ(self) -> dict[str, Any]:
        """The WSGI environ, with the client's socket in it."""
        self._end_head()
        environ: dict[str, Any] = super().get_environ()
        environ["compat.socket"] = self.socket
        environ["compat.outlet"] = ClientOutlet(self)
        given: Any = self.wsgi_input
        self.wsgi_input: Any = Body(given.rfile, given.content_length, socket=given.socket, chunked_input=given.chunked_input)
        self.wsgi_input.is_at_hand = (self.content_length or 0) <= self._came_with_head and not given.chunked_input
        environ["wsgi.input"] = self.wsgi_input
        return environ

    def _end_head(self) -> None:
        if self._head_bound is not None:
            self._head_bound.close()
            self._head_bound = None

    def handle_one_response(self) -> None:
        """Call the application and write its answer, to its last byte."""
        self.is_busy = True
        try:
            super().handle_one_response()
        finally:
            self.is_busy = False
            self.idle_since_s = time.monotonic()
            if self.wsgi_input.is_left or self.connection_upgraded:  # nobody knows where the next request would begin
                self.close_connection = True
            self.environ.clear()  # it leads to what leads back to it: the outlet, Flask's request

    def finalize_headers(self) -> None:
        """A server that leaves asks the client for a new connection next time; another one will take it."""
        super().finalize_headers()
        if self.server.is_leaving and not self.connection_upgraded:
            self.close_connection = True
            headers: list[tuple[bytes, bytes]] = self.response_headers
            headers[:] = [(name, value) for name, value in headers if name.lower() != b"connection"]
            headers.append((b"connection", b"close"))

    def hang_up(self) -> None:
        """End a connection that has no request. One that arrives at this very moment is still read and answered."""
        with contextlib.suppress(OSError, AttributeError):  # it has ended meanwhile
            self.socket.shutdown(socket.SHUT_RD)

    def _sendall(self, data: bytes) -> None:
        """Send as fast as the client reads; one that does not has left."""
        if self.owed:
            data, self.owed = self.owed + data, b""
        try:
            sent = self.socket.send(data, 0, 0.0)  # most leaves at once; `sendall` asks for the size of the system's buffer first
        except BlockingIOError:
            sent = 0
        self.response_length += sent
        if sent == len(data):
            return
        self.socket.settimeout(SEND_TIMEOUT_S)
        try:
            view = memoryview(data)[sent:]
            for start in range(0, len(view), _SEND_BYTES):
                super()._sendall(view[start : start + _SEND_BYTES])
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, "the client does not read") from error
        finally:
            self.socket.settimeout(None)

    def _write_with_headers(self, data: bytes) -> None:
        self.headers_sent = True
        self.finalize_headers()
        lines = [b"HTTP/1.1 " + self.status, *(name + b": " + value for name, value in self.response_headers), b"", b""]
        head = b"\r\n".join(lines)
        if data and self.response_use_chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        self._sendall(head + data)

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes]:
        kind = RequestTimeout if isinstance(ex, TimeoutError) else BadRequest
        return _refusal(kind(f"The request could not be read: {ex or type(ex).__name__}."[:500]), (self.path or "").partition("?")[0])

    def log_request(self) -> None:
        """The call log has the record."""


def _refusal(error: GatewayError, path: str = "") -> tuple[str, bytes]:
    """The status and the whole answer to a request that could not be read, at a path that is known or not; the connection ends with it."""
    body = protocol_at(canonical_path(path)).error_body(error)
    head = (
        f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return str(error.status), head.encode() + body


class GatewayServer(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """gevent's server, for at most `room` connections, which it knows. Mutable: these, and whether others take what comes next."""

    def __init__(self, listener: Any, app: Any, room: int, **more: Any) -> None:
        self.connections: set[Handler] = set()
        self.is_leaving = False
        super().__init__(listener, app, **{"handler_class": Handler, "log": None, "error_log": None, "spawn": room, **more})

    @property
    def answering(self) -> int:
        """How many answers are not written to their end."""
        return sum(handler.is_busy for handler in self.connections)

    def hang_up(self, idle_s: float = 0.0) -> None:
        """End the connections that have had no request for so long."""
        now_s = time.monotonic()
        for handler in list(self.connections):
            if not handler.is_busy and now_s - handler.idle_since_s >= idle_s:
                handler.hang_up()


def end_calls(gauges: Gauges) -> None:
    """End what runs, with an error that says why."""
    for greenlet in list(gauges.serving):
        gevent.kill(greenlet, ShuttingDown("The gateway is shutting down, and this answer took too long to wait for."))


class Server:
    """The running server. Mutable: only through gevent's own."""

    def __init__(self, listener: socket.socket, app: Any, gateway: Gateway) -> None:
        self._gateway = gateway
        room = connection_bound(gateway.settings.server.max_connections)
        self._server = GatewayServer(listener, app, room)

    def start(self) -> None:
        """Begin to accept."""
        self._server.start()

    def stop(self, bound_s: float) -> int:
        """Stop accepting, let running calls finish for at most `bound_s`; how many were still running then.

        Those are ended with an error that says why.
        """
        gauges = self._gateway.gauges
        gauges.is_draining = True
        self._gateway.feed.dismiss()
        self._server.close()
        self._wait(bound_s)
        left = self._server.answering
        end_calls(gauges)
        self._wait(_LAST_WORDS_S)
        self._server.stop(timeout=0)
        return left

    def _wait(self, bound_s: float) -> None:
        """Until all answers are written, or stored, for at most `bound_s`. A call that is over may still have bytes to send."""
        clock = self._gateway.clock.monotonic
        deadline_s = clock() + bound_s
        while (self._server.answering or self._gateway.gauges.background) and clock() < deadline_s:
            gevent.sleep(_POLL_S)
