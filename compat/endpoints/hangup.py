"""Noticing that a client left, at once and also while its answer is silent.

One watcher of the event loop looks at the client's socket for the whole call. When the client closes, the greenlet that serves it
gets `ClientGone` wherever it waits: for an engine, a connection, an answer. While the server writes to the client, nothing is
thrown: the write itself fails.

The end of what a client sends looks the same whether it closed the connection or only its own half of it, as it may (RFC 9112,
section 9.6): then it waits for its answer. So it is sent something that says nothing. A closed end refuses it, which is looked for at
growing intervals; one that waits gets its answer.
"""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import gevent
from gevent import get_hub

from compat.errors import ClientGone

_READ = 1
_FIRST_LOOK_S = 0.001
_LONGEST_LOOK_S = 1.0
_SLOWER = 3.0


class Outlet(Protocol):
    """What is needed of the server's end of the answer."""

    def probe(self) -> bool:
        """Send what says nothing; whether that could be done. Errors: `OSError`."""
        ...


class ClientWatch:
    """A context manager around the work for one client.

    Without a socket (a WSGI server that gives none, a test client) it watches nothing. Without an outlet, which can tell the two apart, a
    client that ended its half has left.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._socket: socket.socket | None = environ.get("compat.socket") or environ.get("gunicorn.socket")
        self._outlet: Outlet | None = environ.get("compat.outlet")
        self._greenlet = gevent.getcurrent()
        self._watcher: Any = None
        self._is_waiting = False
        self._is_gone = False
        self._has_probed = False
        self._look_s = _FIRST_LOOK_S
        if self._socket is not None:
            self._watcher = get_hub().loop.io(self._socket.fileno(), _READ)
            self._watcher.start(self._on_readable)

    def __enter__(self) -> ClientWatch:
        if self._is_gone:
            raise ClientGone
        self._is_waiting = True
        return self

    def __exit__(self, *_exc: object) -> None:
        self._is_waiting = False

    def close(self) -> None:
        """Stop watching; the second call does nothing."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    # Callbacks of the event loop.

    def _on_readable(self) -> None:
        """Bytes are a pipelined request; an end or an error means that the client left, or that it says no more."""
        assert self._socket is not None
        plain = _socket.socket(fileno=self._socket.fileno())  # gevent's own would wait here
        is_error = False
        try:
            data = plain.recv(1, socket.MSG_PEEK)  # the descriptor is non-blocking
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, is_error = b"", True
        finally:
            plain.detach()
        if self._watcher is not None:
            self._watcher.stop()
        if data:
            return
        if is_error or self._outlet is None:
            self._gone()
        else:
            self._ask()

    def _ask(self) -> None:
        """Probe as soon as the greenlet waits, and look for the answer later."""
        assert self._outlet is not None
        if self._is_waiting and not self._has_probed:
            try:
                self._has_probed = self._outlet.probe()
            except OSError:
                self._gone()
                return
        self._look_s = min(self._look_s * _SLOWER, _LONGEST_LOOK_S)
        self.close()
        self._watcher = get_hub().loop.timer(self._look_s)
        self._watcher.start(self._on_time)

    def _on_time(self) -> None:
        if self._is_refused():
            self._gone()
        else:
            self._ask()

    def _is_refused(self) -> bool:
        """Whether the client's system refused what was sent."""
        assert self._socket is not None
        number = self._socket.fileno()
        if number < 0:
            return True
        plain = _socket.socket(fileno=number)
        try:
            return plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        finally:
            plain.detach()

    def _gone(self) -> None:
        self.close()
        self._is_gone = True
        if self._is_waiting:
            self._greenlet.throw(ClientGone())


class WatchedFrames:
    """An answer's frames for the WSGI server: work on them is done under the watch, and whatever happens they are closed."""

    def __init__(
        self, first: bytes, frames: Iterator[bytes], watch: ClientWatch, on_fault: Callable[[Exception], bytes] | None = None
    ) -> None:
        """`on_fault` notes a fault of ours and makes the frame that the client gets; without it a fault leaves as it is."""
        self._on_fault = on_fault
        self._first: bytes | None = first
        self._frames = frames
        self._watch = watch

    def __iter__(self) -> WatchedFrames:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            with self._watch:
                return next(self._frames)
        except ClientGone:
            self.close()
            raise StopIteration from None
        except StopIteration:
            raise
        except Exception as error:
            self.close()
            if self._on_fault is None:
                raise
            return self._on_fault(error)  # the generator has ended: nothing follows

    def close(self) -> None:
        """End the call: called by the server after the last frame, or when it could not write one."""
        self._watch.close()
        self._frames.close()  # type: ignore[attr-defined]  # a generator
