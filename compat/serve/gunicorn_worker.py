"""gunicorn's gevent worker with the gateway's own server in it.

The server is that of `python app.py` (`gevent_server.py`), so that the wire is the same: one write for head and first bytes, the
client's socket for noticing a hang-up, malformed requests in OpenAI's shape. What gunicorn's own worker does otherwise:

    it leaves             gunicorn's                        here
    when it is replaced   idle connections hold it up       they may send one more request, which is answered with `connection: close`
    when all is stopped   likewise                          idle connections are closed, calls get `shutdown_s`, then an error event
    when its master dies  at once, with all its streams     as if it were replaced: its streams finish

gunicorn's master imports this module before gevent has patched anything, so all that touches sockets is imported in the worker only.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import gevent.event
from gunicorn.errors import AppImportError
from gunicorn.workers.ggevent import GeventWorker

from compat.config.settings import SettingsError

if TYPE_CHECKING:
    from compat.serve.gunicorn_server import WorkerServer

_TICK_S = 1.0
_LEAVING_TICK_S = 0.2
_LAST_WORDS_S = 1.0


class GatewayWorker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """One worker process. Mutable: `alive`, which a signal clears, and whether it has to hurry."""

    _must_hurry = False
    _is_orphan = False

    def load_wsgi(self) -> None:
        """Make the application. A failure is one line that begins with our name, for whoever waits for the start."""
        from compat.serve.open_files import raise_file_limit

        raise_file_limit()
        try:
            super().load_wsgi()
            self._refuse_itself()
        except SettingsError as error:
            raise AppImportError(f"openai-compat: {error}") from error
        except Exception as error:
            self.log.exception("The application can't be made")
            raise AppImportError(f"openai-compat: a worker can't start: {type(error).__name__}: {error}") from error

    def _refuse_itself(self) -> None:
        """`SettingsError` for an upstream that leads back to our sockets, wherever gunicorn listens."""
        from compat.routing.own_address import OwnAddress

        names = [listener.getsockname() for listener in self.sockets]
        own = OwnAddress([name[:2] for name in names if isinstance(name, tuple)])
        own.keep_from(self.wsgi.gateway)
        self._admit = own.keep_from

    def init_signals(self) -> None:
        """gunicorn's, and a bell that ends the worker's rest."""
        self._bell = gevent.event.Event()
        super().init_signals()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: finish what is running."""
        super().handle_exit(sig, frame)
        self._bell.set()

    def handle_quit(self, sig: int, frame: Any) -> None:  # noqa: ARG002  # gunicorn's signature
        """SIGQUIT, SIGINT: end what is running, with a word to each client; a second one ends the process."""
        signal.signal(sig, signal.SIG_DFL)
        self._must_hurry = True
        self.alive = False
        self._bell.set()

    def notify(self) -> None:
        """Tell the master that this worker is well. Without a master, it is time to leave."""
        self.tmp.notify()
        if self.ppid != os.getppid() and not self._is_orphan:
            self._is_orphan = True
            self.alive = False
            self.log.warning("The master of worker %s is gone; it finishes its calls and ends.", self.pid)

    def run(self) -> None:
        """Serve until asked to end, then end in good order."""
        from compat.serve.gunicorn_server import WorkerServer
        from compat.serve.lasting import set_lasting_aside

        server = WorkerServer(self, self.wsgi)
        set_lasting_aside()
        server.start()
        server.live.follow(self._admit).start()
        try:
            while self.alive:
                self.notify()
                server.tick()
                self.alive = self.alive and not server.fleet.is_over()
                if self.alive:
                    self._bell.wait(_TICK_S)
            self._leave(server)
        finally:
            server.close()
            server.live.stop()

    def _leave(self, server: WorkerServer) -> None:
        """Let calls finish, within the bound that the occasion has, which may become shorter meanwhile."""
        begun_s = time.monotonic()
        is_replaced = True
        server.stop_accepting()
        while server.is_in_use:
            is_replaced = is_replaced and not self._must_hurry and self._is_replaced(server)
            bound_s = server.leave(is_replaced=is_replaced)
            if self._must_hurry or time.monotonic() - begun_s > bound_s:
                break
            self.notify()
            gevent.sleep(_LEAVING_TICK_S)
        server.end_calls()
        deadline_s = time.monotonic() + _LAST_WORDS_S
        while server.is_in_use and time.monotonic() < deadline_s:
            gevent.sleep(_LEAVING_TICK_S / 2)

    def _is_replaced(self, server: WorkerServer) -> bool:
        """Whether others go on where this worker ends; without a master, the watcher sees to that."""
        return server.fleet.was_replaced() or (self._is_orphan and not server.fleet.is_service_stopping())
