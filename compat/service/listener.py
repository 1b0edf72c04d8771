"""The listening socket, which the workers of all generations share."""

from __future__ import annotations

import socket
import time

_RETRY_S = 0.05
_BACKLOG = 2048


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket. Errors: `OSError` when the address is taken or is not ours."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)  # what the latter means on Windows lets others in
        listener.setsockopt(socket.SOL_SOCKET, exclusive, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class Listener:
    """The watcher's. Mutable: the socket, the address it was asked for at, and the sockets before it, which workers may still serve."""

    def __init__(self) -> None:
        self.address: tuple[str, int] | None = None
        self._sockets: list[socket.socket] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return bool(self._sockets)

    @property
    def bound(self) -> tuple[str, int] | None:
        """Where it listens, once there is a socket."""
        return self._sockets[-1].getsockname()[:2] if self._sockets else None

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sockets[-1].fileno()

    def adopt(self, descriptor: int, address: tuple[str, int] | None) -> None:
        """Take over the socket of the watcher before."""
        self._sockets, self.address = [socket.socket(fileno=descriptor)], address

    def bind(self, host: str, port: int, patience_s: float) -> None:
        """Have a socket for the address; the one there is stays if the address stays. Errors: `OSError`, after `patience_s`."""
        deadline_s = time.monotonic() + patience_s
        while not self._sockets or self.address != (host, port):
            try:
                self._sockets.append(open_listener(host, port))
                self.address = (host, port)
            except OSError:
                if time.monotonic() >= deadline_s:
                    raise
                time.sleep(_RETRY_S)

    def close_old(self) -> None:
        """Close the sockets of addresses before the present one."""
        while len(self._sockets) > 1:
            self._sockets.pop(0).close()

    def close(self) -> None:
        """Close all sockets."""
        while self._sockets:
            self._sockets.pop().close()
