"""The server within a gunicorn worker: that of `python app.py`, at every socket, and how it leaves them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gunicorn.sock import ssl_context

from compat.calls.gateway import Gateway
from compat.endpoints.health import FLEET
from compat.engine.shared import SharedEngine
from compat.follow import Live
from compat.serve.gevent_server import GatewayServer, end_calls
from compat.serve.open_files import connection_bound
from compat.service.fleet import Fleet
from compat.service.launch import revive_watcher
from compat.service.state import run_folder

IDLE_GRACE_S = 10.0
"""How long a connection without a request is kept by a worker that was replaced: who uses it does so within that time."""


class WorkerServer:
    """All listening sockets of a worker. Mutable: only through gevent's servers."""

    def __init__(self, worker: Any, live: Live) -> None:
        self.live = live
        self._base_dir = Path(worker.cfg.chdir)
        self._run = run_folder(self._base_dir, os.environ)
        number = int(os.environ.get("OPENAI_COMPAT_GENERATION") or 0)
        self._is_watched = bool(os.environ.get("OPENAI_COMPAT_LISTEN_FD"))
        self.fleet = Fleet(self._run, number, live.gateway.clock.now(), is_watched=self._is_watched)
        tls = {"ssl_context": ssl_context(worker.cfg)} if worker.cfg.is_ssl else {}
        room = connection_bound(worker.cfg.worker_connections)
        environ = {FLEET: self.fleet, "wsgi.multiprocess": worker.cfg.workers > 1}
        self._servers = [GatewayServer(sock, worker.wsgi, room, environ=environ, **tls) for sock in worker.sockets]

    @property
    def gateway(self) -> Gateway:
        """The gateway that new requests go to."""
        return self.live.gateway

    @property
    def is_in_use(self) -> bool:
        """Whether there is a connection, also one that was accepted only now and has no handler yet; or an answer that is made without."""
        return any(len(server.pool) for server in self._servers) or self.gateway.gauges.background > 0

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
        self.gateway.feed.dismiss()
        self._note("retiring" if is_replaced else "stopping")
        self._hang_up(IDLE_GRACE_S if is_replaced else 0.0)
        return settings.drain_s if is_replaced else settings.shutdown_s

    def end_calls(self) -> None:
        """End what runs, with an error that says why."""
        end_calls(self.gateway.gauges)
        self._hang_up()

    def close(self) -> None:
        """End every connection that is left."""
        left = self.gateway.gauges.in_flight
        for server in self._servers:
            server.stop(timeout=0)
        self._event("worker.stopped", ended_by_force=left)
        self.fleet.forget()

    def _hang_up(self, idle_s: float = 0.0) -> None:
        for server in self._servers:
            server.hang_up(idle_s)

    def _note(self, state: Any) -> None:
        self.fleet.note(state, self.gateway.gauges.in_flight, self.gateway.gauges.calls)

    def _event(self, name: str, **more: object) -> None:
        self.gateway.log.event(name, {"pid": os.getpid(), "generation": self.fleet.generation, **more})
