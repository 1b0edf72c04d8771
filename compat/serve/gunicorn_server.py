"""The server within a gunicorn worker: that of `python app.py`, which also knows its connections and how to leave them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer
from gunicorn.sock import ssl_context

from compat.calls.gateway import Gateway
from compat.endpoints.health import FLEET
from compat.engine.shared import SharedEngine
from compat.errors import ShuttingDown
from compat.serve.gevent_server import Handler
from compat.serve.open_files import connection_bound
from compat.service.fleet import Fleet
from compat.service.launch import revive_watcher
from compat.service.state import run_folder

IDLE_GRACE_S = 10.0
"""How long a connection without a request is kept by a worker that was replaced: who uses it does so within that time."""


class WorkerHandler(Handler):
    """One client's connection, which its server knows. Mutable: whether a request is being answered, and since when none is."""

    is_busy = False
    idle_since_s = 0.0

    def handle(self) -> None:
        """Serve the connection's requests."""
        self.idle_since_s = time.monotonic()
        connections: set[WorkerHandler] = self.server.connections
        connections.add(self)
        try:
            super().handle()
        finally:
            connections.discard(self)

    def handle_one_response(self) -> None:
        """Answer one request, to its last byte."""
        self.is_busy = True
        try:
            super().handle_one_response()
        finally:
            self.is_busy = False
            self.idle_since_s = time.monotonic()

    def finalize_headers(self) -> None:
        """A worker that leaves asks the client for a new connection next time; another one will take it."""
        super().finalize_headers()
        if self.server.is_leaving:
            self.close_connection = True
            headers: list[tuple[bytes, bytes]] = self.response_headers
            headers[:] = [(name, value) for name, value in headers if name.lower() != b"connection"]
            headers.append((b"connection", b"close"))

    def hang_up(self) -> None:
        """End a connection that has no request. One that arrives at this very moment is still read and answered."""
        try:
            self.socket.shutdown(socket.SHUT_RD)
        except (OSError, AttributeError):  # it has ended meanwhile
            return


class _Server(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """gevent's server. Mutable: `connections`, `is_leaving`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.connections: set[WorkerHandler] = set()
        self.is_leaving = False
        super().__init__(*arguments, **named)


class WorkerServer:
    """All listening sockets of a worker. Mutable: only through gevent's servers."""

    def __init__(self, worker: Any, gateway: Gateway) -> None:
        self.gateway = gateway
        base_dir = Path(worker.cfg.chdir)
        self._base_dir = base_dir
        self._run = run_folder(base_dir, os.environ)
        number = int(os.environ.get("OPENAI_COMPAT_GENERATION") or 0)
        self._is_watched = bool(os.environ.get("OPENAI_COMPAT_LISTEN_FD"))
        self.fleet = Fleet(self._run, number, gateway.clock.now(), is_watched=self._is_watched)
        self._log = worker.log
        tls = {"ssl_context": ssl_context(worker.cfg)} if worker.cfg.is_ssl else {}
        room = connection_bound(worker.cfg.worker_connections)
        environ = {FLEET: self.fleet, "wsgi.multiprocess": worker.cfg.workers > 1}
        self._servers = [
            _Server(sock, worker.wsgi, handler_class=WorkerHandler, log=None, error_log=None, spawn=Pool(room), environ=environ, **tls)
            for sock in worker.sockets
        ]

    @property
    def is_in_use(self) -> bool:
        """Whether there is a connection, also one that was accepted only now and has no handler yet."""
        return any(len(server.pool) for server in self._servers)

    def start(self) -> None:
        """Begin to accept."""
        for server in self._servers:
            server.socket.setblocking(False)
            server.start()
        self._note("serving")
        self._event("worker.started")

    def tick(self) -> None:
        """What is to be done once a second."""
        self._note("serving")
        if isinstance(self.gateway.engine, SharedEngine):
            self.gateway.engine.tend()
        if self._is_watched and revive_watcher(self._run, self._base_dir, self._servers[0].socket.fileno()):
            self._event("watcher.died")

    def stop_accepting(self) -> None:
        """Leave new connections to others."""
        for server in self._servers:
            server.is_leaving = True
            server.close()

    def leave(self, *, is_replaced: bool) -> float:
        """One step of leaving; the bound for all of them, in seconds."""
        settings = self.gateway.settings.server
        self.gateway.gauges.is_draining = not is_replaced
        self._note("retiring" if is_replaced else "stopping")
        now_s = time.monotonic()
        for handler in self._handlers():
            if not handler.is_busy and (not is_replaced or now_s - handler.idle_since_s > IDLE_GRACE_S):
                handler.hang_up()
        return settings.drain_s if is_replaced else settings.shutdown_s

    def end_calls(self) -> None:
        """End what runs, with an error that says why."""
        words = "The gateway is shutting down, and this answer took too long to wait for."
        for greenlet in list(self.gateway.gauges.serving):
            gevent.kill(greenlet, ShuttingDown(words))
        for handler in self._handlers():
            if not handler.is_busy:
                handler.hang_up()

    def close(self) -> None:
        """End every connection that is left."""
        left = self.gateway.gauges.in_flight
        for server in self._servers:
            server.stop(timeout=0)
        self._event("worker.stopped", ended_by_force=left)
        self.fleet.forget()

    def _handlers(self) -> list[WorkerHandler]:
        return [handler for server in self._servers for handler in server.connections]

    def _note(self, state: Any) -> None:
        self.fleet.note(state, self.gateway.gauges.in_flight, self.gateway.gauges.calls)

    def _event(self, name: str, **more: object) -> None:
        self.gateway.log.event(name, {"pid": os.getpid(), "generation": self.fleet.generation, **more})
