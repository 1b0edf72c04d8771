"""What one warm streamed call passes: modules of ours, calls of their functions, and how often the one follows the other.

    python -m bench.passes               -> for an upstream of the client's own protocol, and for Anthropic's

Time is a poor measure of structure: it depends on the machine, and on who else uses it. This counts, with the same result every time.
A call is served in this process, over a network in memory (`tests/fakes/memory.py`), after a few others have warmed it up; its answer comes
in one piece. `sys.setprofile` sees every function of `compat/` begin, and those count that begin beneath `compat/calls/`: the core, and
all that it asks. A generator that goes on counts as a call, for it is one. A *switch* is a call of a function of another module than the
one that asks: what a reader has to follow. Beside them, `greenlets` counts the switches between greenlets.
"""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from tests.fakes.upstream import Answer, Request, Responder

ROOT = str(Path(compat.__file__).parent) + "/"
CORE = ROOT + "calls/"
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
        above = list(modules_above(frame))
        if any(module.startswith(CORE) for module in (name, *above)):
            self.calls += 1
            self.modules.add(name)
            self.switches += name not in above[:1]


def modules_above(frame: FrameType) -> Iterator[str]:
    """The modules of ours that led to a frame, the nearest first."""
    above = frame.f_back
    while above is not None:
        if above.f_code.co_filename.startswith(ROOT):
            yield above.f_code.co_filename
        above = above.f_back


def in_one_piece(respond: Responder) -> Responder:
    """The same answers, each of them there at once."""

    def answer(request: Request) -> Answer:
        given = respond(request)
        return dataclasses.replace(given, steps=[b"".join(step for step in given.steps if isinstance(step, bytes))])

    return answer


def passes_of(kind: str, respond: Responder) -> Passes:
    """What a call to an upstream of `kind` passes."""
    network = Network()
    upstream = network.upstream(default=in_one_piece(respond))
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
