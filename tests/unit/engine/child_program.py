"""What a child does in a test: `python -m tests.unit.engine.child_program DEED [ARGUMENT]`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from compat.engine.child import Child, child_environment, end_with_parent


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


def tell() -> None:
    """Say what it was given."""
    say({"environment": dict(os.environ), "arguments": sys.argv[1:], "folder": str(Path.cwd()), "first": sys.stdin.readline()})


def garble() -> None:
    """Say things between objects that are none."""
    print("loading ...\n[1, 2]\n{broken\n\n" + '"' + "x" * 200_000 + '"')
    say({"n": 1})
    sys.stdout.buffer.write(b'\xff\xfe\n{"n": 2}\n{"n": 3}')
    sys.stdout.flush()


def complain() -> None:
    """Say a lot on standard error, and end with status 3."""
    sys.stderr.write("".join(f"line {number}\n" for number in range(30)))
    sys.stderr.buffer.write(b"the end \xff\n")
    sys.exit(3)


def flood() -> None:
    """Fill both pipes many times over."""
    for number in range(5000):
        say({"n": number, "filler": "x" * 200})
        sys.stderr.write("y" * 200 + "\n")


def wait() -> None:
    """Do nothing."""
    say({"ready": True})
    threading.Event().wait()


def defy() -> None:
    """Do nothing, not even end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait()


def die() -> None:
    """End by a signal."""
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))


def follow() -> None:
    """End with the parent; while this runs, a connection to the port of the argument is open."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as sock:
        end_with_parent()
        sock.sendall(b"here")
        say({"ready": True})
        threading.Event().wait()


def deaf_follow() -> None:
    """As `follow`, but only the parent's end counts: somebody else holds the other end of standard input."""
    reader, _ = os.pipe()
    os.dup2(reader, 0)
    follow()


def lead() -> None:
    """Start a child that follows, as deaf as the argument says; then wait for an end that comes without warning."""
    child = Child("tests.unit.engine.child_program", sys.argv[2:4], child_environment(os.environ))
    say({"child": child.read()})
    threading.Event().wait()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
