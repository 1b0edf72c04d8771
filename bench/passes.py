"""What one warm streamed call passes: modules of ours, calls of their functions, and how often the one follows the other.

    python -m bench.passes               -> for an upstream of the client's own protocol, and for Anthropic's

Time is a poor measure of structure: it depends on the machine, and on who else is on it. This counts, and gives the same numbers every time.
A call is served in this process, over a network in memory (`tests/fakes/memory.py`), after a few others have warmed it up; `sys.setprofile`
sees every function of `compat/` begin and end. A generator that goes on counts as a call, for it is one. A *switch* is a call of a function
of another module than the one that runs: what a reader has to follow. Beside them, `greenlets` counts the switches of gevent's hub.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import greenlet

import compat
from compat.config.settings import load_settings, merge
from compat.factory import build_gateway, create_app
from compat.upstream.client import UpstreamClient
from tests.fakes import anthropic_answers, openai_answers
from tests.fakes.memory import Network
from tests.fakes.upstream import Request

ROOT = str(Path(compat.__file__).parent)
WARM_UPS = 3
QUIET: Mapping[str, Any] = {"discovery": {"enabled": False}, "embedded": {"enabled": False}, "log": {"terminal": False}}
BODY = {
    "model": "m",
    "messages": [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": "Hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


@dataclass(frozen=True, slots=True)
class Passes:
    """What was counted."""

    modules: tuple[str, ...]
    calls: int
    switches: int
    greenlets: int

    def __str__(self) -> str:
        return f"{len(self.modules)} modules, {self.calls} calls, {self.switches} switches, {self.greenlets} greenlet switches"


class Counter:
    """Counts while it is entered. Mutable: all of it."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.calls = self.switches = self.greenlets = 0

    def __enter__(self) -> Counter:
        greenlet.settrace(self._on_switch)
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        greenlet.settrace(None)

    def _on_switch(self, event: str, _: object) -> None:
        self.greenlets += event == "switch"

    def _on_event(self, frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(ROOT):
            return
        self.calls += 1
        self.modules.add(name)
        self.switches += caller_of(frame) != name


def caller_of(frame: FrameType) -> str:
    """The nearest module of ours that stands above a frame."""
    above = frame.f_back
    while above is not None and not above.f_code.co_filename.startswith(ROOT):
        above = above.f_back
    return above.f_code.co_filename if above is not None else ""


def passes_of(kind: str, respond: Callable[[Request], Any]) -> Passes:
    """What a call to an upstream of `kind` passes."""
    network = Network()
    upstream = network.upstream(default=respond)
    url = upstream.url if kind == "openai" else upstream.url.removesuffix("/v1")
    settings = {
        "upstreams": {"up": {"kind": kind, "base_url": url, "api_keys": ["sk-counted"]}},
        "models": {"m": {"route": ["up/claude-sonnet-4-6"]}},
    }
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_settings(None, {}, merge(QUIET, settings))
        transport = UpstreamClient(make_pool=network.pool)
        gateway = build_gateway(loaded, {}, Path(folder), clock=network.clock, transport=transport)
        app = create_app(gateway)
        for _ in range(WARM_UPS):
            served(app)
        with Counter() as counter:
            served(app)
        transport.close()
    modules = tuple(sorted(Path(name).relative_to(ROOT).as_posix() for name in counter.modules))
    return Passes(modules, counter.calls, counter.switches, counter.greenlets)


class AtHand(io.BytesIO):
    """A body that came together with its head, as most do."""

    is_at_hand = True


def served(app: Callable[..., Iterable[bytes]]) -> bytes:
    """The whole answer to one call."""
    body = json.dumps(BODY).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/v1/chat/completions",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.input": AtHand(body),
    }
    status: list[str] = []
    frames = app(environ, lambda line, _headers, _exc=None: status.append(line))
    answer = b"".join(frames)
    close: Callable[[], None] = getattr(frames, "close", lambda: None)
    close()
    if status != ["200 OK"] or not answer.endswith(b"data: [DONE]\n\n"):
        raise RuntimeError(f"the call failed: {status} {answer[:200]!r}")
    return answer


def all_passes() -> dict[str, Passes]:
    """Of each kind of upstream."""
    return {"openai": passes_of("openai", openai_answers.respond), "anthropic": passes_of("anthropic", anthropic_answers.respond)}


if __name__ == "__main__":
    for kind, found in all_passes().items():
        print(f"{kind:10} {found}")
        if "-v" in sys.argv:
            print("           " + " ".join(found.modules))
