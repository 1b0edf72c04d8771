"""The whole gateway in one process, without a socket: requests as WSGI environs, upstreams as bytes. For many thousands of cases."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from compat.config.settings import load_settings
from compat.factory import build_gateway, create_app
from compat.upstream.client import Secret, Upstream
from compat.upstream.http1 import Exchange
from tests.fakes import openai_answers as openai
from tests.fakes import responses_answers as responses
from tests.fakes import responses_items as items
from tests.security.fuzz_translate import frames_are_frames
from tests.security.fuzz_wire import exchange_of

CANARY = "sk-canary-0123456789"
SETTINGS = {
    "server": {"max_body_bytes": 1_000_000},
    "upstreams": {
        "oa": {"kind": "openai", "base_url": "http://up.test/v1", "api_keys": [CANARY]},
        "an": {"kind": "anthropic", "base_url": "http://up.test", "api_keys": [CANARY]},
        "local": {"kind": "llama-server", "base_url": "http://up.test/v1"},
    },
    "models": {"claude-4-sonnet": {"route": ["oa/m"]}, "an": {"route": ["an/claude-sonnet-4-6"]}, "local": {"route": ["local/m"]}},
    "retry": {"attempts": 1},
    "circuit": {"failures": 10**9, "unreachable": 10**9, "min_calls": 10**9},
    "discovery": {"enabled": False},
    "embedded": {"enabled": False},
    "vault": {"path": ""},
    "log": {"terminal": False},
}


def http_answer(body: bytes, status: int = 200, content_type: str = "application/json", head: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %s\r\n%scontent-length: %d\r\n\r\n%s" % (status, content_type.encode(), head, len(body), body)


SAID = [items.message(items.text_part("Hi"))]
GOOD = http_answer(json.dumps(openai.completion("Hi")).encode())


def fair_answer(endpoint: str, body: bytes) -> bytes:
    """What an OpenAI-compatible upstream would say to `body`."""
    asked = json.loads(body)
    if endpoint == "embeddings":
        count = len(asked["input"]) if isinstance(asked["input"], list) and not isinstance(asked["input"][0], int) else 1
        rows = [{"object": "embedding", "index": number, "embedding": [0.5, 1.0]} for number in range(count)]
        return http_answer(json.dumps({"data": rows, "usage": {"prompt_tokens": 3, "total_tokens": 3}}).encode())
    if endpoint == "openai.responses":
        if asked.get("stream"):
            return http_answer(b"".join(map(responses.one_event, responses.stream_events(SAID))), content_type="text/event-stream")
        return http_answer(json.dumps(responses.response(SAID)).encode())
    if not endpoint.endswith(".chat"):
        return http_answer(json.dumps({"id": "c", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}).encode())
    if asked.get("stream"):
        return http_answer(openai.sse_bytes(openai.text_chunks("Hi")), content_type="text/event-stream")
    return GOOD


class Bytes:
    """A transport whose upstream sends `pieces` to every call, then closes; without pieces it is fair. `sent` is what it got last."""

    idle = 0

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.sent = b""

    def open(self, _upstream: Upstream, endpoint: str, body: bytes, _headers: Mapping[str, str], _key: Secret | None = None) -> Exchange:
        self.sent = body
        return exchange_of(list(self.pieces) or [fair_answer(endpoint, body)])


def wire_text(text: str) -> str:
    """Text as WSGI has it (PEP 3333): one character for each byte."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


class Answered:
    """What a client got: the frames of a stream are in `body`, whatever broke while they were made is raised."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = int(status.split()[0]), dict(headers), body

    @property
    def error(self) -> dict[str, Any]:
        """The error object of an answer that is one."""
        return dict(json.loads(self.body)["error"])


class InProcess:
    """The gateway. `faults` are errors of its own since they were last asked for: there must be none."""

    def __init__(self, folder: Path, more: dict[str, Any] | None = None) -> None:
        self.transport = Bytes()
        self.gateway = build_gateway(load_settings(None, {}, {**SETTINGS, **(more or {})}), {}, folder, transport=self.transport)
        self.gateway.feed.close()  # so that it ends at once: an answer is read to its end
        self._app = create_app(self.gateway)

    def ask(self, method: str = "POST", path: str = "/v1/chat/completions", body: bytes = b"", **environ: str) -> Answered:
        told: list[Any] = []
        path, environ = wire_text(path), {name: wire_text(value) for name, value in environ.items()}
        default = {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)), "HTTP_HOST": "127.0.0.1:1"}
        frame: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "1",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SCRIPT_NAME": "",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "REMOTE_ADDR": "127.0.0.1",
            **default,
            **environ,
        }
        answer: Any = self._app(frame, lambda status, headers, *_: told.append((status, headers)))
        try:
            data = b"".join(answer)
        finally:
            getattr(answer, "close", lambda: None)()
        return Answered(*told[0], data)

    def close(self) -> None:
        """Close its stores."""
        for store in (self.gateway.responses, self.gateway.vault, self.gateway.usage):
            store.close()

    def faults(self) -> list[Any]:
        """Records of the error boundary, and calls that ended with an internal error; the log is emptied."""
        queue = self.gateway.log._queue
        found = [fields for _, _, event, fields in queue if event == "error" or fields.get("code") == "internal_error"]
        queue.clear()
        return found


@cache
def shared() -> InProcess:
    """One for all cases: a case that spoils it for the next ones is found as well."""
    return InProcess(Path(tempfile.mkdtemp(prefix="openai-compat-fuzz-")))


def answer_is_clean(answer: Answered) -> None:
    """OpenAI's shape, JSON or frames, no word of our inside, no header that is none."""
    assert shared().faults() == []
    assert 200 <= answer.status < 600
    assert answer.status != 500 or answer.error["code"] != "internal_error"
    assert b"Traceback" not in answer.body
    assert CANARY.encode() not in answer.body
    assert answer.headers["x-request-id"]
    assert all(value.isprintable() for value in answer.headers.values())
    content_type = answer.headers.get("content-type", answer.headers.get("Content-Type", ""))
    if content_type.startswith("text/event-stream"):
        named_are_left_out = re.sub(rb"event: [a-z_.]+\ndata: {.*}\n\n", b"", answer.body)  # those of other doors: see `fuzz_doors`
        frames_are_frames(named_are_left_out)
    elif content_type == "application/json" and answer.body:
        document = json.loads(answer.body)
        if answer.status >= 400:
            wanted = (
                {"message", "type"} if document.get("type") == "error" else {"message", "type", "param", "code"}
            )  # Anthropic's, OpenAI's
            assert set(document["error"]) == wanted
            assert isinstance(document["error"]["message"], str)
