"""Children that follow a script instead of running a program, and what is needed to start an `EmbeddedEngine` with them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compat.config.sections import EmbeddedSettings
from compat.engine.embedded import EmbeddedEngine, EngineStatus

READY = {"address": "http://127.0.0.1:40001"}
BOUND_S = 10.0


class FakeChild:
    """Says `lines`; then it ends with `code`, or, with `code` `None`, lives until `end` or `stop`. `is_mute` makes every read time out."""

    def __init__(self, *lines: dict[str, Any], code: int | None = None, tail: Sequence[str] = (), is_mute: bool = False) -> None:
        self.tail = tail
        self.pid = 4242
        self.is_stopped = False
        self.module = ""
        self.arguments: Sequence[str] = ()
        self.environment: Mapping[str, str] = {}
        self.first_line: Any = None
        self._is_mute = is_mute
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._code = 0
        for line in lines:
            self.say(line)
        if code is not None:
            self.end(code)

    def say(self, line: dict[str, Any]) -> None:
        self._lines.put(line)

    def end(self, code: int) -> None:
        if not self._ended.is_set():
            self._code = code
            self._ended.set()
            self._lines.put(None)

    def read(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        if self._is_mute and not self._ended.is_set():
            raise TimeoutError
        return self._lines.get(timeout=None if timeout_s is None else BOUND_S)

    def wait(self) -> int:
        assert self._ended.wait(BOUND_S), "nobody ended the child"
        return self._code

    def stop(self, bound_s: float = 1.5) -> None:
        self.is_stopped = True
        self.end(-15)


class FakeProgress:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.is_closed = False

    def update(self, done: int, total: int) -> None:
        self.seen.append((done, total))

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Stage:
    """An engine and all that it meets. `children` are started in order; `events` are what it told."""

    settings: EmbeddedSettings
    children: list[FakeChild | OSError]
    is_installed: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    events: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)
    started: list[FakeChild] = field(default_factory=list)
    progress: FakeProgress = field(default_factory=FakeProgress)
    faults_of_listener: dict[str, Exception] = field(default_factory=dict)
    now_s: float = 0.0
    lacks: Callable[[], str] = lambda: ""

    def __post_init__(self) -> None:
        self._told = threading.Condition()
        self.engine = EmbeddedEngine(
            self.settings,
            self._on_event,
            start_child=self._start_child,
            is_installed=lambda: self.is_installed,
            show_progress=lambda _name: self.progress,
            clock=lambda: self.now_s,
            environment=self.environment,
            lacks=self.lacks,
        )

    def wait_for(self, name: str, count: int = 1) -> Mapping[str, object]:
        """The fields of the event, as soon as it was told so often."""

        def found() -> list[Mapping[str, object]]:
            return [fields for told, fields in self.events if told == name]

        with self._told:
            assert self._told.wait_for(lambda: len(found()) >= count, BOUND_S), f"{name} was not told; {self.names}"
        return found()[count - 1]

    def wait_started(self, child: FakeChild) -> None:
        """Return as soon as `child` was started."""
        with self._told:
            assert self._told.wait_for(lambda: child in self.started, BOUND_S), "the child was not started"

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    @property
    def status(self) -> EngineStatus:
        return self.engine.status()

    def _on_event(self, name: str, fields: Mapping[str, object]) -> None:
        with self._told:
            self.events.append((name, fields))
            self._told.notify_all()
        if name in self.faults_of_listener:
            raise self.faults_of_listener.pop(name)

    def _start_child(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], first_line: Any) -> FakeChild:
        assert self.children, f"{module} was not expected to be started"
        child = self.children.pop(0)
        if isinstance(child, OSError):
            raise child
        child.module, child.arguments, child.environment, child.first_line = module, arguments, environment, first_line
        with self._told:
            self.started.append(child)
            self._told.notify_all()
        return child


def with_file(folder: Path, **more: Any) -> EmbeddedSettings:
    """Settings whose model is a file in `folder`."""
    path = folder / "tiny.gguf"
    path.write_bytes(b"GGUF")
    return EmbeddedSettings(model=str(path), **more)
