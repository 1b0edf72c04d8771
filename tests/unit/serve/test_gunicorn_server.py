"""The server within a gunicorn worker, without gunicorn."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from compat.follow import Live, Place
from compat.serve.gunicorn_server import WorkerServer
from compat.service.state import RunFolder, write_json
from tests.unit.builders import make_gateway


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_workers_of_gunicorn_alone_start_no_watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """What the file of a service tells is about another one, which ended or was killed before."""
    run = RunFolder(tmp_path / "data" / "run")
    run.make()
    write_json(run.service, {"mode": "background", "state": state, "watcher": None})
    for name in ("OPENAI_COMPAT_LISTEN_FD", "OPENAI_COMPAT_RUN_DIR", "OPENAI_COMPAT_GENERATION"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        configuration = SimpleNamespace(chdir=str(tmp_path), is_ssl=False, worker_connections=10, workers=2)
        worker = SimpleNamespace(cfg=configuration, wsgi=None, log=None, sockets=[listener])
        WorkerServer(worker, Live(make_gateway(tmp_path), Place(tmp_path))).tick()
    assert (run.root / "workers").is_dir()
    assert not (run.root / "revived").exists()
    assert not (tmp_path / "logs" / "service.log").exists()
