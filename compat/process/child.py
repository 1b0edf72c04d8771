"""One child process: started with nothing of the gateway's environment that it does not need, watched, and ended for certain."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME")
_NETWORK = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_TAIL_LINES = 20


class Child:
    """A running module of this program that speaks JSON lines. Mutable: only through the process itself.

    Standard input stays open as long as the child is wanted: its end tells the child that its parent is gone.
    """

    def __init__(self, module: str, arguments: Sequence[str] = (), extra: Mapping[str, str] | None = None, first_line: Any = None) -> None:
        """Start `python -m module`. `extra` is added to its environment, `first_line` is sent to it as JSON. Errors: `OSError`."""
        self._process = subprocess.Popen(  # noqa: S603  # our own modules
            [sys.executable, "-m", module, *arguments],
            cwd=_import_root(),
            env=child_environment(os.environ, extra or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        if first_line is not None:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(first_line).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def tail(self) -> str:
        """The last lines of its standard error: why it ended, when it did."""
        return "\n".join(self._tail)

    def read(self) -> dict[str, Any] | None:
        """The next JSON object that it prints; `None` at the end of its output."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                return value
        return None

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        code = self._process.wait()
        self._reader.join(timeout=1)
        self._close_pipes()
        return code

    def stop(self, bound_s: float = 2.0) -> None:
        """SIGTERM, and SIGKILL after `bound_s`; returns when it is gone."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=bound_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.wait()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._tail.append(line.decode("utf-8", "replace").rstrip())

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


def child_environment(environment: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """What a child may know: where things are and how the network is reached, none of the keys."""
    passed = {name: environment[name] for name in (*_PASSED_ON, *_NETWORK) if name in environment}
    passed |= {name: value for name, value in environment.items() if name.startswith("PIP_")}
    return {**passed, "OPENAI_COMPAT_PARENT": str(os.getpid()), "PYTHONUNBUFFERED": "1", **extra}


def _import_root() -> str:
    """The folder that holds the package, so that `-m` finds it wherever the gateway was started."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
