"""One WebSocket (RFC 6455, RFC 7692) on the connection of a WSGI request: messages in, messages out, and word of a client that left.

The protocol is that of `websockets`, which does no I/O. A greenlet reads, answers pings and notices the end; the one that serves the
request sends. While a message is served one more is read, so that its client's leaving is noticed; others wait on the wire.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Protocol

import gevent
from gevent.lock import RLock
from gevent.queue import Empty, Queue
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from compat.errors import BadRequest, ClientGone
from compat.streaming.offload import Offload

_HANDSHAKE = ("Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions")
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_READ_BYTES = 64 * 1024
_FEW_BYTES = 4 * 1024
"""What is read at once and stands for little, also when it is decompressed: RFC 1951 makes at most a thousandth of anything."""
_WINDOW_BITS = 12
_MEMORY_LEVEL = 5
"""A connection that compresses holds 64 KiB instead of 300, as the library's own server does."""
_LINGER_S = 1.0


class Outlet(Protocol):
    """What is needed of the server's end of the connection."""

    def send_all(self, data: bytes) -> None:
        """Send all of it, as fast as the client reads. Errors: `OSError`."""
        ...


class WebSocket:
    """A connection whose handshake was accepted: `headers` are those of the answer 101.

    Mutable: whether the client has left, and whether the serving greenlet is to be interrupted then (`with`).
    """

    def __init__(self, environ: dict[str, Any], most_bytes: int, offload: Offload) -> None:
        """Errors: `BadRequest`, with the status that the handshake's fault has. `most_bytes` bounds a message."""
        deflate = ServerPerMessageDeflateFactory(
            server_max_window_bits=_WINDOW_BITS, client_max_window_bits=_WINDOW_BITS, compress_settings={"memLevel": _MEMORY_LEVEL}
        )
        self._protocol = ServerProtocol(max_size=most_bytes, extensions=[deflate])
        fields = {name: environ.get(f"HTTP_{name.upper().replace('-', '_')}") for name in _HANDSHAKE}
        asked = Headers({name: value for name, value in fields.items() if value is not None})
        self._protocol.receive_data(Request("/", asked).serialize())
        requests = [event for event in self._protocol.events_received() if isinstance(event, Request)]
        answer = self._protocol.accept(requests[0]) if requests else None
        if answer is None or self._protocol.handshake_exc is not None:
            status = None if answer is None else int(answer.status_code)
            raise BadRequest(f"The WebSocket can't be opened: {self._protocol.handshake_exc}.", status=status)
        self._protocol.send_response(answer)
        self._protocol.data_to_send()  # the WSGI server sends the head
        self.headers = [(name.lower(), value) for name, value in answer.headers.raw_items() if name != "Date"]
        self.is_gone = False
        self._offload = offload
        self._source: Any = environ["wsgi.input"].rfile
        self._outlet: Outlet = environ["compat.outlet"]
        self._lock = RLock()
        self._messages: Any = Queue(1)
        self._is_waiting = False
        self._greenlet: Any = None
        self._reader: Any = None

    def begin(self) -> bytes:
        """Begin to read, for the running greenlet; what is to be sent first, with the head: a ping, which asks for nothing."""
        self._greenlet = gevent.getcurrent()
        self._reader = gevent.spawn(self._read)
        self._protocol.send_ping(b"")
        return b"".join(self._protocol.data_to_send())

    def __enter__(self) -> None:
        """From here on `ClientGone` is thrown into the greenlet that serves, wherever it waits. Errors: `ClientGone`."""
        if self.is_gone:
            raise ClientGone
        self._is_waiting = True

    def __exit__(self, *_: object) -> None:
        self._is_waiting = False

    def receive(self, bound_s: float) -> bytes | None:
        """The next message; `None` when the client has left. Errors: `TimeoutError` when none came in time."""
        try:
            message: bytes | None = self._messages.get(timeout=bound_s)
        except Empty as error:
            raise TimeoutError from error
        return message

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages of text. Errors: `ClientGone`."""
        with self._lock:
            for message in messages:
                if self._protocol.state is not OPEN:
                    raise ClientGone
                self._protocol.send_text(message)
            self._flush()

    def ping(self) -> None:
        """Send what says nothing. Errors: `ClientGone`."""
        with self._lock:
            if self._protocol.state is not OPEN:
                raise ClientGone
            self._protocol.send_ping(b"")
            self._flush()

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection in good order, with a moment for the client to see why; one that is over ends at once."""
        try:
            with self._lock:
                if self._protocol.state is OPEN:
                    self._protocol.send_close(code, reason)
                    self._flush()
                    if not self.is_gone:
                        gevent.spawn(self._drain)
                        self._reader.join(_LINGER_S)
        except ClientGone:
            pass
        finally:
            self._reader.kill(block=False)

    def _drain(self) -> None:
        """Take what nobody serves any more, so that the reader gets to the client's last word."""
        while self._messages.get() is not None:
            pass

    def _flush(self) -> None:
        if data := b"".join(self._protocol.data_to_send()):
            try:
                self._outlet.send_all(data)
            except OSError as error:
                raise ClientGone from error

    # The greenlet that reads.

    def _read(self) -> None:
        parts = bytearray()
        with contextlib.suppress(OSError, ValueError, ClientGone):
            while data := self._source.read1(_READ_BYTES):
                for frame in self._frames(data):
                    if frame.opcode in _DATA:
                        parts += frame.data
                        if frame.fin:
                            self._messages.put(bytes(parts))
                            parts.clear()
                if self._protocol.close_expected():
                    break
        self.is_gone = True
        gevent.get_hub().loop.run_callback(self._interrupt)
        self._messages.put(None)

    def _frames(self, data: bytes) -> list[Any]:
        """The frames that `data` completes; what they ask for is sent."""
        with self._lock:
            if len(data) > _FEW_BYTES and self._protocol.extensions:
                self._offload.in_thread(lambda: self._protocol.receive_data(data))
            else:
                self._protocol.receive_data(data)
            frames = self._protocol.events_received()
            self._flush()
            return frames

    def _interrupt(self) -> None:
        """A callback of the event loop, so that whoever serves is waiting."""
        if self._is_waiting:
            self._greenlet.throw(ClientGone())
