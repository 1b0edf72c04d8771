"""One child process: started with nothing of the gateway's environment that it does not need, read, and ended for certain.

Both ends of the bond are here: `Child` is the parent's, `end_with_parent` is called by the child's program.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_TAIL_LINES = 20
_MAX_LINE_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1
_PARENT = "OPENAI_COMPAT_PARENT"

# fmt: off
_BASE = frozenset((
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME",
    "SYSTEMROOT", "SYSTEMDRIVE", "USERPROFILE", "APPDATA", "LOCALAPPDATA",
    "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
))
_NETWORK = frozenset((
    "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "NETRC", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS",
))
# fmt: on


class Child:
    """A running module of this program that speaks JSON lines. Mutable: only through the process itself.

    Standard input stays open as long as the child is wanted: its end shows the child that its parent is gone. Two readers empty its
    pipes all the time, so that it never has to wait for us.
    """

    def __init__(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], first_line: Any = None) -> None:
        """Start `python -m module`. `first_line` is sent to it as JSON, for what must not be on a command line. Errors: `OSError`.

        `environment` is all that it gets (`child_environment`).
        """
        self._process = subprocess.Popen(  # noqa: S603  # our own modules
            [sys.executable, "-m", module, *arguments],
            cwd=Path(__file__).parents[2],  # where the package is, so that `-m` finds it wherever the gateway was started
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin = self._process.stdin
        self._readers = [
            threading.Thread(target=self._read_output, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        if first_line is not None:
            with contextlib.suppress(OSError):  # it died at once; `read` and `wait` report it
                self._stdin.write(json.dumps(first_line).encode() + b"\n")
                self._stdin.flush()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of its standard error."""
        return tuple(self._tail)

    def read(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The next JSON object that it prints; `None` at the end of its output. Errors: `TimeoutError` after `timeout_s`."""
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None

    def wait(self) -> int:
        """Wait for its end; its exit code, the negative number of the signal that ended it."""
        code = self._process.wait()
        for reader in self._readers:
            reader.join(timeout=1)  # a grandchild may still hold the pipes
        with contextlib.suppress(OSError):
            self._stdin.close()
        return code

    def stop(self, bound_s: float = 1.5) -> None:
        """SIGTERM, and SIGKILL after `bound_s`; it is gone when this returns."""
        with contextlib.suppress(OSError):
            self._process.terminate()
        try:
            self._process.wait(timeout=bound_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.wait()

    def _read_output(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), pipe:
            while line := pipe.readline(_MAX_LINE_BYTES):
                with contextlib.suppress(ValueError):
                    value = json.loads(line)
                    if isinstance(value, dict):
                        self._lines.put(value)
        self._lines.put(None)

    def _read_errors(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), pipe:
            while line := pipe.readline(_MAX_LINE_BYTES):
                self._tail.append(line.decode("utf-8", "replace").rstrip())


def child_environment(
    environment: Mapping[str, str], extra: Mapping[str, str] | None = None, *, with_network: bool = False
) -> dict[str, str]:
    """What a child may know: where things are, `extra`, and `with_network` how pip gets out; none of the keys of upstreams."""
    wanted = _BASE | _NETWORK if with_network else _BASE
    passed = {
        name: value
        for name, value in environment.items()
        if name.upper() in wanted or (with_network and name.startswith("PIP_"))  # proxies are spelt in lower case as well
    }
    return {**passed, _PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1", **(extra or {})}


def exit_reason(code: int) -> str:
    """An exit code of `Child.wait` in words."""
    if code >= 0:
        return f"ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def end_with_parent() -> None:
    """Called by a child: have SIGTERM sent to this process when its parent ends, and leave at once if that happened already.

    On Linux the kernel does it, whatever this process is busy with; elsewhere a thread waits for the end of standard input.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):  # it ended before the kernel was asked
            os._exit(1)
    threading.Thread(target=_end_with_input, daemon=True).start()


def _end_with_input() -> None:
    # Not through sys.stdin: its lock would be held when the interpreter ends, which it answers with an abort.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
