"""Runs a program of Python's with the network blocked but for this machine: `python blocked_network.py PROGRAM ARGUMENT ...`

An audit hook sees every connection, every datagram and every name that is looked up, whatever library asks, below gevent's sockets; it
can't be taken out again. What is refused is told on standard error as `BLOCKED <event> <what>`.
"""

from __future__ import annotations

import ipaddress
import runpy
import sys
from typing import Any

WATCHED = {"socket.connect", "socket.connect_ex", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}


def is_here(host: Any) -> bool:
    """Whether `host` is this machine: an address of the loopback, its name, or nothing."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in {None, "", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what leads elsewhere."""
    if event not in WATCHED:
        return
    target = arguments[0] if event.startswith("socket.get") else arguments[1]
    host = target[0] if isinstance(target, tuple) and target else target
    if isinstance(target, str | bytes) and not event.startswith("socket.get"):
        return  # a socket of the file system
    if not is_here(host):
        sys.stderr.write(f"BLOCKED {event} {host}\n")
        raise OSError(101, "Network is unreachable")


if __name__ == "__main__":
    sys.addaudithook(watch)
    sys.argv = sys.argv[1:]
    sys.path[0] = ""
    runpy.run_path(sys.argv[0], run_name="__main__")
