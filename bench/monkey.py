"""Imported first by programs that run on gevent, as the gateway does: sockets, locks and threads become cooperative."""

from gevent import monkey

monkey.patch_all()
