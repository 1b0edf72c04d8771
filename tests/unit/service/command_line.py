"""`python app.py` as a process, or called in this one: a copy in a folder of its own: no `.env` and no configuration of ours counts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import compat
from compat.cli import main

ROOT = Path(compat.__file__).parents[1]
BOUND_S = 30.0
URL = re.compile(r"URL +(http://\S+)/v1")


@contextlib.contextmanager
def replaced(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """With this environment and in this folder."""
    before, was_in = dict(os.environ), Path.cwd()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(was_in)
        os.environ.clear()
        os.environ.update(before)


class CommandLine:
    """`python app.py` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / "app.py", folder)
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
        self.running: list[Started] = []

    def configure(self, text: str, name: str = "config.toml") -> str:
        (self.folder / name).touch(mode=0o600)  # it may hold keys
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "app.py", *arguments]
        env = {**self.environment, **environment}
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=BOUND_S, check=False)

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """As `run`, in this process, which takes a tenth of the time; for commands that end by themselves and serve nothing."""
        out, err = io.StringIO(), io.StringIO()
        with replaced({**self.environment, **environment}, self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code: Any = main(arguments, self.folder)
            except SystemExit as end:  # argparse
                code = end.code
        return subprocess.CompletedProcess(list(arguments), code or 0, out.getvalue(), err.getvalue())

    def start(self, *arguments: str, **environment: str) -> Started:
        command = [sys.executable, "app.py", *arguments]
        self.running.append(Started(command, self.folder, {**self.environment, **environment}))
        return self.running[-1]


class Started:
    """A gateway that runs; `banner` is what it said until the address of its health page."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, **pipes)
        self._log = folder / "logs/openai_compat.log"
        self.banner = ""
        assert self.process.stderr is not None
        while "Health" not in self.banner:
            line = self.process.stderr.readline()
            assert line, f"it ended: {self.banner}"
            self.banner += line
        found = URL.search(self.banner)
        assert found is not None
        self.root = found[1]
        self.port = int(self.root.rpartition(":")[2])
        self._rest: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        with contextlib.suppress(ValueError):
            self._rest.extend(pipe)

    def end(self) -> tuple[int, str]:
        """Its exit code, and all that it said on standard error, once it has ended of itself."""
        code = self.process.wait(BOUND_S)
        self._reader.join(BOUND_S)
        return code, self.banner + "".join(self._rest)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def refuses_connections(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except (ConnectionRefusedError, ConnectionResetError):  # reset: it was in the queue of a listener that was closed just then
            return True
        return False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(BOUND_S)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
