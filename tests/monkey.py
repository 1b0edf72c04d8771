"""Loaded first by pytest (`-p tests.monkey`): the tests run as the gateway does, on gevent's sockets."""

from gevent import monkey

monkey.patch_all()
