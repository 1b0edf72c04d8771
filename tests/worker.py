"""One process of a parallel test run, started by pytest-xdist in place of plain `python` (see `tests/monkey.py`).

gevent's patches are there before execnet makes a lock, so that its thread that receives is a greenlet. Were they applied when pytest reads
its plugins, the locks would be half native and half gevent's, and the first wait for a test would end with `LoopExit`.
"""

import sys
from typing import Any

from execnet.gateway_base import MainThreadOnlyExecModel, init_popen_io, serve
from gevent import monkey
from gevent.fileobject import FileObject


class CooperativeModel(MainThreadOnlyExecModel):
    """execnet's model of threads, but that waiting for the next test lets other greenlets run."""

    def fdopen(self, fd: int, mode: str, bufsize: int = 1, closefd: bool = True) -> Any:
        if mode == "r" and closefd:  # the pipe that tests come from, and no other file
            return FileObject(fd, "rb")
        return super().fdopen(fd, mode, bufsize, closefd)  # writes block: no greenlet may come between two halves of a report


if __name__ == "__main__":
    monkey.patch_all()
    sys.path.pop(0)  # this file's folder, which `python -c` would not have
    sys.stdin.readline()  # execnet's source, sent for interpreters that don't have it installed
    io = init_popen_io(CooperativeModel())
    io.write(b"1")  # tells the other side that messages may follow
    serve(io, id=sys.argv[1])
