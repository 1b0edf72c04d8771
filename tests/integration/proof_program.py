"""Calls in a house that was built onto: `test_proofs.py` runs this with the changed package first on the path.

It reads `{"environment": ..., "settings": ..., "answers": {upstream: [answer, ...]}, "calls": [...]}` from its input, and writes what each
call gave, and what the upstreams were sent. An answer is `{"status": ..., "type": ..., "pieces": [...]}`; a piece that is `null` cuts the
connection, one that is a number is a pause. `URL:name` in the settings stands for an upstream's address.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from compat.config.settings import load_settings, merge
from compat.factory import build_gateway, create_app
from compat.upstream.client import UpstreamClient
from tests.fakes.memory import Network
from tests.fakes.upstream import Answer, Cut, Sleep

QUIET = {"discovery": {"enabled": False}, "embedded": {"enabled": False}, "log": {"terminal": False}, "retry": {"first_wait_s": 0.001}}


def answer_of(row: dict[str, Any]) -> Answer:
    steps = [Cut() if piece is None else piece.encode() if isinstance(piece, str) else Sleep(piece) for piece in row["pieces"]]
    return Answer(steps, row.get("status", 200), (("content-type", row.get("type", "text/event-stream")),))


def main() -> None:
    asked = json.load(sys.stdin)
    network = Network()
    upstreams = {}
    written = json.dumps([asked["settings"], asked["environment"]])
    for name, rows in asked["answers"].items():
        upstreams[name] = network.upstream()
        upstreams[name].script(*map(answer_of, rows))
        written = written.replace(f"URL:{name}", upstreams[name].url)
    settings, environment = json.loads(written)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_settings(None, environment, merge(QUIET, settings))
        transport = UpstreamClient(make_pool=network.pool)
        gateway = build_gateway(loaded, environment, Path(folder), clock=network.clock, transport=transport)
        app = create_app(gateway)
        given = [served(app, call) for call in asked["calls"]]
        transport.close()
    sent = {
        name: [{"path": request.path, "headers": request.headers, "body": request.json} for request in upstream.requests]
        for name, upstream in upstreams.items()
    }
    json.dump({"given": given, "sent": sent}, sys.stdout)


def served(app: Any, call: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(call.get("body")).encode()
    environ = {
        "REQUEST_METHOD": call.get("method", "POST"),
        "PATH_INFO": call["path"],
        "HTTP_ORIGIN": call.get("origin", ""),
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
    }
    head: list[Any] = []
    frames = app(environ, lambda line, headers, _exc=None: head.extend((line, headers)))
    text = b"".join(frames).decode()
    if hasattr(frames, "close"):
        frames.close()
    return {"status": int(head[0].split()[0]), "headers": dict(head[1]), "text": text}


if __name__ == "__main__":
    main()
