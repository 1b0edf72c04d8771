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


def local_url(host: str, port: int) -> str:
    """Where this machine reaches what listens at `host`, without a path."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Listener:
    """The watcher's. Mutable: the address that it was asked for at last, and its socket.

    While the next generation begins at another address, the socket before stays, for the generation that still serves there.
    """

    def __init__(self) -> None:
        self.address: tuple[str, int] | None = None
        self._sockets: dict[tuple[str, int], socket.socket] = {}

    @property
    def bound(self) -> tuple[str, int] | None:
        """Where it listens, once there is a socket."""
        return self._sockets[self.address].getsockname()[:2] if self.address is not None else None

    def fileno(self) -> int:
        """The socket's descriptor; there has to be one."""
        assert self.address is not None
        return self._sockets[self.address].fileno()

    def adopt(self, descriptor: int, address: tuple[str, int]) -> None:
        """Take over the socket of the watcher before."""
        self._sockets, self.address = {address: socket.socket(fileno=descriptor)}, address

    def bind(self, host: str, port: int, patience_s: float) -> None:
        """Have a socket for the address; the one there is stays if the address stays. Errors: `OSError`, after `patience_s`."""
        deadline_s = time.monotonic() + patience_s
        while (host, port) not in self._sockets:
            try:
                self._sockets[host, port] = open_listener(host, port)
            except OSError:
                if time.monotonic() >= deadline_s:
                    raise
                time.sleep(_RETRY_S)
        self.address = (host, port)

    def keep(self, host: str, port: int) -> None:
        """Close all sockets but that of this address, where a generation serves; nothing where all are closed."""
        if (host, port) in self._sockets:
            self.address = (host, port)
            for other in self._sockets.keys() - {self.address}:
                self._sockets.pop(other).close()

    def close(self) -> None:
        """Close all sockets."""
        self.address = None
        while self._sockets:
            self._sockets.popitem()[1].close()
