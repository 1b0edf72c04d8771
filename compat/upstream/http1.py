"""One HTTP/1.1 exchange over one connection, read as it comes.

The parser is llhttp (through httptools): a strict C parser that hands over what a read holds. The socket is ours for one reason:
while an upstream thinks, the caller must get control back (to send a heartbeat, to see that the client left) and go on waiting
afterwards. `http.client`, and with it urllib3 and requests, can't read on after a time-out. For the same reason a call makes one read
at most: an upstream that sends without end, or a byte now and then, does not outlast the caller's deadlines. What is kept of it is bounded.

    Exchange.receive_head(timeout_s) -> Head | None      None: nothing yet
    Exchange.receive(timeout_s)      -> bytes | None     None: nothing yet; b"" once the body is complete
    Exchange.receive_now()           -> bytes | None     the same without waiting
    Exchange.close()                                     gives the connection back when the answer was read to its end

Errors: `UpstreamUnreachable` before an answer, `UpstreamBroken` within one. Foreign exceptions are mapped here and in `pool`, nowhere else.
"""

from __future__ import annotations

import email.utils
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httptools

from compat.errors import UpstreamBroken, UpstreamError, UpstreamUnreachable
from compat.upstream.inflate import Inflater, inflater_of
from compat.upstream.tls import TlsSocket

READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
"""The most that is read for a head, interim answers included, and the most between two pieces of a body, or after the last."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; names are lower case, repeated ones joined by a comma."""

    status: int
    headers: Mapping[str, str]

    def dated(self, now_s: float) -> Head:
        """This head with the date at which it came, where it asks for a wait and names none of its own (RFC 9110, section 6.6.1)."""
        if "retry-after" not in self.headers or "date" in self.headers:
            return self
        return Head(self.status, {**self.headers, "date": email.utils.formatdate(now_s, usegmt=True)})


@dataclass(slots=True)
class Connection:
    """A connected socket and what a pool needs to know of it. `is_reused`: it served an exchange before."""

    sock: socket.socket | TlsSocket
    is_reused: bool = False
    idle_since_s: float = 0.0


@dataclass(slots=True)
class _Parsed:
    """What the parser has handed over and nobody took yet."""

    headers: dict[str, str] = field(default_factory=dict)
    head: Head | None = None
    body: list[bytes] = field(default_factory=list)
    is_complete: bool = False
    has_length: bool = False


class Exchange:
    """One request that was sent, and its answer. Not thread-safe; one greenlet reads it."""

    __slots__ = (
        "_after_close",
        "_connection",
        "_inflate",
        "_is_watched",
        "_keeps_alive",
        "_parsed",
        "_parser",
        "_pending_head",
        "_received",
        "_resend",
    )

    def __init__(
        self, connection: Connection, after_close: Callable[[Connection, bool], None], resend: Callable[[], Connection] | None = None
    ) -> None:
        """`after_close(connection, is_reusable)` takes the connection back.

        `resend` sends the request again on a fresh connection: it is called once, when a reused one turns out to be closed.
        """
        self._connection = connection
        self._after_close = after_close
        self._resend = resend
        self._parsed = _Parsed()
        self._parser = httptools.HttpResponseParser(self)
        self._received = 0  # bytes since the last that were of use
        self._keeps_alive = False
        self._is_watched = False  # no read waits
        self._inflate: Inflater | None = None
        self._pending_head: dict[str, str] = {}

    @property
    def watchable(self) -> int | None:
        """The descriptor that turns readable with whatever comes; `None` for a compressed body, of which bytes may be left here."""
        return self._connection.sock.fileno() if self._inflate is None else None

    @property
    def has_more(self) -> bool:
        """Whether a read gives something that the descriptor does not show any more: bytes, or the end."""
        sock = self._connection.sock
        return self._parsed.is_complete or (isinstance(sock, TlsSocket) and sock.has_more)

    @property
    def is_whole(self) -> bool:
        """Whether the body came to the end of its own framing. One that ends with its connection has no framing to show it."""
        return self._parsed.is_complete and self._parsed.has_length

    def receive_head(self, timeout_s: float) -> Head | None:
        """The answer's head, or `None` when one read, of at most `timeout_s`, did not complete it."""
        if self._parsed.head is None:
            data = self._read_first(timeout_s)
            if data is not None:
                self._feed(data)
        return self._parsed.head

    def receive(self, timeout_s: float) -> bytes | None:
        """The next bytes of the body, as many as are there; `None` when one read, of at most `timeout_s`, gave none; `b""` at the end."""
        data = self._take()
        if data or self._parsed.is_complete:
            return data
        read = self._read(timeout_s)
        if read is None:
            return None
        if read == b"":
            self._end_by_close()
        else:
            self._feed(read)
        data = self._take()
        return data if data or self._parsed.is_complete else None

    def receive_now(self) -> bytes | None:
        """`receive` without waiting, for the callbacks of the event loop."""
        parsed = self._parsed
        if parsed.body or parsed.is_complete or self._inflate is not None:
            return self.receive(0)
        sock = self._connection.sock
        if not self._is_watched:
            self._is_watched = True
            sock.settimeout(0)
        try:
            read = sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            raise UpstreamBroken(f"The connection to the upstream broke during the answer: {_words(error)}.") from error
        if read:
            self._feed(read)
        else:
            self._end_by_close()
        body = parsed.body
        if len(body) == 1:
            return body.pop()
        return self._take() if body or parsed.is_complete else None

    def close(self) -> None:
        """End the exchange; the second call does nothing. An answer that was not read to its end takes its connection with it."""
        if self._after_close is not _nothing:
            after_close, self._after_close = self._after_close, _nothing
            after_close(self._connection, self._parsed.is_complete and self._keeps_alive and not self._parsed.body)
            del self._parser  # which holds this exchange in turn: what it has read need not wait for the collector

    def _take(self) -> bytes:
        """Bytes of the body that are there; `b""` when there are none, or when it has come to its end."""
        parsed, inflate = self._parsed, self._inflate
        data = b""
        if parsed.body:
            data = parsed.body[0] if len(parsed.body) == 1 else b"".join(parsed.body)
            parsed.body = []
        if inflate is None:
            return data
        inflate.feed(data)
        data = inflate.take()
        if not data and parsed.is_complete:
            inflate.finish()
        return data

    def _read_first(self, timeout_s: float) -> bytes | None:
        """Bytes of the head. A reused connection that turns out to be closed is replaced, as long as no byte of an answer came."""
        try:
            data = self._read(timeout_s)
        except UpstreamUnreachable:
            if self._resend is None or self._received:
                raise
            data = b""
        if data == b"":
            if self._resend is None or self._received:
                raise UpstreamUnreachable("The upstream closed the connection without an answer.")
            resend, self._resend = self._resend, None
            self._connection.sock.close()
            self._connection = resend()
            return None
        return data

    def _read(self, timeout_s: float) -> bytes | None:
        sock = self._connection.sock
        self._is_watched = False
        try:
            sock.settimeout(timeout_s)
            data = sock.recv(READ_BYTES)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return None
        except (ssl.SSLError, OSError) as error:
            if self._parsed.head is None:
                raise UpstreamUnreachable(f"The connection to the upstream broke before an answer: {_words(error)}.") from error
            raise UpstreamBroken(f"The connection to the upstream broke during the answer: {_words(error)}.") from error
        return data

    def _feed(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise UpstreamBroken("The upstream asks for another protocol than HTTP/1.1.") from error
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, UpstreamError):
                raise error.__context__ from None
            if self._parsed.is_complete:  # bytes after the end: the answer stands, the connection does not
                self._keeps_alive = False
                return
            raise UpstreamBroken(f"The upstream does not speak HTTP: {error}.") from error
        if self._received > MAX_HEAD_BYTES:
            # The parser keeps an unfinished line, so that trailers and extensions of chunks must be bounded as the head is.
            what = "headers" if self._parsed.head is None else "framing without content"
            raise UpstreamBroken(f"The upstream sent more than {MAX_HEAD_BYTES} bytes of {what}.")

    def _end_by_close(self) -> None:
        parsed = self._parsed
        if parsed.has_length:
            raise UpstreamBroken("The upstream closed the connection in the middle of its answer.")
        parsed.is_complete = True
        self._keeps_alive = False

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        if self._parsed.is_complete:
            self._keeps_alive = False  # a second answer that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._parsed.head is not None:
            return  # a trailer: nobody reads it
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        headers = self._pending_head
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._pending_head = self._pending_head, {}
        if status < 200:
            return
        parsed = self._parsed
        if parsed.head is not None:
            return
        encoding = headers.get("content-encoding")
        self._inflate = None if encoding is None else inflater_of(encoding)
        parsed.has_length = "content-length" in headers or "transfer-encoding" in headers
        parsed.head = Head(status, headers)
        self._received = 0
        self._keeps_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if not self._parsed.is_complete:
            self._parsed.body.append(data)
            self._received = 0

    def on_message_complete(self) -> None:
        if self._parsed.head is not None:
            self._parsed.is_complete = True


def _nothing(_connection: Connection, _is_reusable: bool) -> None:
    """Stands in for `after_close` once it was called."""


def _words(error: BaseException) -> str:
    """The system's words for an error, without its number."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
