"""One gateway in the foreground, from its listening socket to its last answer."""

from __future__ import annotations

import errno
import os
import signal
import sys

import gevent
import gevent.event
import setproctitle

from compat import __version__
from compat.banner import banner
from compat.calls.gateway import Gateway
from compat.config.settings import SettingsError
from compat.follow import Live, Place
from compat.routing.own_address import OwnAddress
from compat.serve.gevent_server import Server
from compat.serve.lasting import set_lasting_aside
from compat.serve.open_files import raise_file_limit
from compat.service.listener import open_listener

_LISTS_S = 1.0
"""How long the banner waits for the upstreams' lists, on which the routes that it shows depend."""


def serve(gateway: Gateway, place: Place) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, with the configuration of `place` as it is from time to time.

    Errors: `SettingsError` when it can't listen, or would call itself.
    """
    server_settings = gateway.settings.server
    raise_file_limit()
    try:
        listener = open_listener(server_settings.host, server_settings.port)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        hint = "Another program uses the port: stop it, or choose another with --port."
        if not is_taken:
            hint = "--host takes an address of this machine."
        raise SettingsError(f"can't listen on {server_settings.host}:{server_settings.port}: {error.strerror}. {hint}") from error
    port = listener.getsockname()[1]
    own = OwnAddress([listener.getsockname()[:2]])
    try:
        own.keep_from(gateway)
    except SettingsError:
        listener.close()
        raise
    live = Live(gateway, place)
    follower = live.follow(own.keep_from)
    setproctitle.setproctitle(f"openai_compat: gateway {server_settings.host}:{port}")
    server = Server(listener, live, gateway)
    stopping = watch_signals()
    live.start()
    follower.start()
    set_lasting_aside()
    server.start()
    gateway.discovery.wait(_LISTS_S)
    print(banner(gateway, port), file=sys.stderr, flush=True)
    gateway.log.event("gateway.started", {"version": __version__, "host": server_settings.host, "port": port, "pid": os.getpid()})
    stopping.wait()
    gateway.log.event("gateway.stopping", {"in_flight": gateway.gauges.in_flight})
    left = server.stop(server_settings.shutdown_s)
    gateway.log.event("gateway.stopped", {"ended_by_force": left})
    live.stop()


def watch_signals() -> gevent.event.Event:
    """Set at the first SIGINT, SIGTERM or SIGHUP (the terminal was closed; not under nohup); a second SIGINT ends the process at once."""
    stopping = gevent.event.Event()

    def on_signal(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        stopping.set()

    gevent.signal_handler(signal.SIGTERM, on_signal)
    gevent.signal_handler(signal.SIGINT, on_signal)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
        gevent.signal_handler(signal.SIGHUP, on_signal)
    return stopping
