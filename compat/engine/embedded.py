"""The embedded model as the gateway uses it: fetched on first use, run as a child, started again when it dies, gone when the gateway is.

A thread of its own carries out what `compat/engine/supervisor.py` decides; `endpoint` waits for it in steps, so that a call can send
heartbeats meanwhile. Events, for the log: `engine.fetching`, `engine.source_lost`, `engine.starting`, `engine.ready`, `engine.died`,
`engine.fetch_failed`, `engine.failed` (it was given up), `engine.stopped`.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import compat.engine.supervisor as do
from compat.config.sections import EmbeddedSettings
from compat.engine.base import INSTEAD, Endpoint, Engine, EngineStatus, Patience
from compat.engine.child import Child, child_environment, exit_reason
from compat.engine.model_file import ModelFileError, cache_folder, distrust, locate
from compat.engine.presets import PRESETS, Preset
from compat.engine.progress import FetchProgress
from compat.errors import NoUpstream

READY_S = 300.0
"""A child that has not loaded its model by then never will."""

_UNSUPPORTED = f"its engine, xllamacpp, is not installed; there are no wheels of it for some platforms. {INSTEAD}"


class ChildProcess(Protocol):
    """What is needed of `Child`."""

    @property
    def pid(self) -> int: ...
    @property
    def tail(self) -> Sequence[str]: ...
    def read(self, timeout_s: float | None = None) -> dict[str, Any] | None: ...
    def wait(self) -> int: ...
    def stop(self, bound_s: float = 1.5) -> None: ...


class Progress(Protocol):
    """What is needed of `FetchProgress`."""

    def update(self, done: int, total: int) -> None: ...
    def close(self) -> None: ...


def engine_is_installed() -> bool:
    """Whether this platform has the engine; it is not loaded into the gateway."""
    return importlib.util.find_spec("xllamacpp") is not None


class EmbeddedEngine(Engine):
    """Supervises the engine of one model. Mutable: history, child and endpoint, changed by one thread and by `stop`, under one condition;
    and the sources of its file that were seen to be useless, by that thread."""

    def __init__(
        self,
        settings: EmbeddedSettings,
        on_event: Callable[[str, Mapping[str, object]], None],
        *,
        start_child: Callable[..., ChildProcess] = Child,
        is_installed: Callable[[], bool] = engine_is_installed,
        show_progress: Callable[[str], Progress] = FetchProgress,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
        lacks: Callable[[], str] = lambda: "",
    ) -> None:
        """`settings.model` is a preset's name or a file's; `lacks` tells why the engine should not be started just now."""
        self.patience = Patience(settings.max_prompt_s)
        preset = self._preset = PRESETS.get(settings.model)
        self._settings = settings
        self._model = preset.name if preset else Path(settings.model).stem
        self._context_tokens = min(settings.context_tokens, preset.context_tokens) if preset else settings.context_tokens
        self._on_event = on_event
        self._start_child = start_child
        self._is_installed = is_installed
        self._show_progress = show_progress
        self._clock = clock
        self._environment = environment
        self._lacks = lacks
        self._useless: set[str] = set()
        self.has_given_up = False
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._child: ChildProcess | None = None
        self._endpoint: Endpoint | None = None
        self._history = do.History()
        self._launched_s = 0.0

    @property
    def presets(self) -> Sequence[Preset]:
        """See `Engine`."""
        return (self._preset,) if self._preset is not None else ()

    def start(self) -> None:
        """See `Engine`."""
        with self._changed:
            if self._settings.enabled and self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="embedded engine", daemon=True)
                self._thread.start()

    def fault(self) -> str:
        """See `Engine`."""
        found = self._look()
        return found.reason if isinstance(found, do.FileFault) else ""

    def status(self) -> EngineStatus:
        """See `Engine`."""
        history, child = self._history, self._child
        pid = child.pid if child is not None and history.state != "fetching" else None
        return EngineStatus(history.state, history.detail, self._model, pid, self._context_tokens, history.restarts)

    def endpoint(self, timeout_s: float) -> Endpoint | None:
        """See `Engine`."""
        if not self._settings.enabled:
            raise NoUpstream(f"The embedded model is switched off. {INSTEAD}.")
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self._endpoint is not None or self._is_hopeless, timeout_s)
            if self._endpoint is None and self._is_hopeless:
                raise NoUpstream(f"The embedded model can't answer: {self._history.detail}.")
            return self._endpoint

    def stop(self) -> None:
        """See `Engine`."""
        with self._changed:
            self._stopping.set()
            child, thread = self._child, self._thread
        if child is not None:
            child.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2)
        self._note(do.History("stopped", "stopped", restarts=self._history.restarts))
        if thread is not None:
            self._on_event("engine.stopped", {"model": self._model})

    @property
    def _is_hopeless(self) -> bool:
        return self._history.state == "failed" or self._stopping.is_set()

    def _run(self) -> None:
        event: do.Event = do.Begun()
        while not self._stopping.is_set():
            history, action = do.decide(self._history, event, self._clock())
            self.has_given_up = isinstance(action, do.GiveUp)
            self._note(history)
            try:
                self._report(event, action)
                if isinstance(action, do.GiveUp):
                    return
                event = self._carry_out(action)
            except Exception as error:  # noqa: BLE001  # the supervisor must outlive whatever it meets; the reason is reported
                self._abandon()
                event = do.Ended(f"failed: {type(error).__name__}: {error}")

    def _carry_out(self, step: do.Step) -> do.Event:
        match step:
            case do.Look():
                return self._look()
            case do.Fetch(preset):
                return self._fetch(preset)
            case do.Launch(path):
                return self._launch(path)
            case do.Watch():
                return self._watch()
            case do.Pause(delay_s):
                self._stopping.wait(delay_s)
                return do.Rested()

    def _look(self) -> do.Event:
        if not self._is_installed():
            return do.FileFault(_UNSUPPORTED, is_permanent=True)
        try:
            found = locate(self._settings)
        except ModelFileError as error:
            return do.FileFault(str(error), error.is_permanent)
        return do.Located(found) if isinstance(found, Path) else do.Missing(found)

    def _fetch(self, preset: Preset) -> do.Event:
        arguments = [preset.name, str(cache_folder(self._settings)), *sorted(self._useless)]
        child = self._spawn("compat.engine.fetch", arguments, child_environment(self._environment, with_network=True))
        progress = self._show_progress(preset.name)
        last: dict[str, Any] = {}
        lost = ""
        try:
            while child is not None and (message := child.read()) is not None:
                if "done" in message:
                    done, total = int(message["done"]), int(message["total"])
                    progress.update(done, total)
                    self._note(replace(self._history, detail=do.fetch_detail(done, total) + lost))
                if "lost" in message:
                    lost = self._lose(preset, message)
                last = message
        finally:
            progress.close()
        code = self._reap()
        if "path" in last:
            return do.Located(Path(last["path"]))
        if "error" in last:
            return do.FileFault(str(last["error"]), bool(last.get("permanent")))
        return do.FileFault(f"fetching {preset.name} {exit_reason(code)}{_why(child)}", is_permanent=False)

    def _lose(self, preset: Preset, message: Mapping[str, Any]) -> str:
        """A source is gone, which is reported; the fetch goes on with the next one, if there is one."""
        reason = str(message["reason"])
        if message.get("permanent"):
            self._useless.add(str(message["lost"]))
        self._on_event("engine.source_lost", {"model": preset.name, "source": message["lost"], "reason": reason})
        return f" ({reason})"

    def _launch(self, path: Path) -> do.Event:
        self._launched_s = self._clock()
        if lacking := self._lacks():
            return do.Refused(lacking, is_permanent=False)
        api_key = secrets.token_urlsafe(24)
        preset, answer_tokens = self._preset, max(self._context_tokens // 4, 1)
        parameters = {
            "path": str(path),
            "sha256": preset.sha256 if preset else "",
            "name": self._model,
            "context_tokens": self._context_tokens,
            "default_max_tokens": min(preset.answer_tokens, answer_tokens) if preset else answer_tokens,
            "sampling": dict(preset.sampling) if preset else {},
            "template": preset.template if preset else "",
            "parallel": self._settings.parallel,
            "threads": self._settings.threads,
            "api_key": api_key,
        }
        # With the active policy idle threads spin: 9 instead of 38 tokens a second beside a busy gateway.
        child = self._spawn("compat.engine.program", [], child_environment(self._environment, {"OMP_WAIT_POLICY": "passive"}), parameters)
        if child is None:
            return do.Ended("stopped")
        try:
            message = child.read(READY_S)
        except TimeoutError:
            child.stop()
            message = {"error": f"the engine was not ready within {READY_S:g} s"}
        if message is not None and "address" in message:
            with self._changed:
                self._endpoint = Endpoint(str(message["address"]), api_key, self._model)
            return do.Ready()
        code, why = self._reap(), _why(child)
        if message is None:
            return do.Ended(f"the engine {exit_reason(code)} before it was ready{why}")
        if preset is not None:
            distrust(path)  # hashed in full before the next try, and fetched again if it went bad
        return do.Refused(f"{message.get('error')}{why}", bool(message.get("permanent")))

    def _watch(self) -> do.Event:
        # Not with the last words of its standard error: what llama.cpp says while it serves may quote a prompt.
        child = self._child
        while child is not None and (message := child.read()) is not None:
            with self._changed:
                if self._endpoint is not None:
                    self._endpoint = replace(self._endpoint, prompt_tokens_s=float(message.get("prompt_tokens_s", 0)))
        code = self._reap()
        return do.Ended(f"the engine {exit_reason(code)}")

    def _spawn(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], first_line: dict[str, Any] | None = None
    ) -> ChildProcess | None:
        """Start a child; `None` when `stop` came first, which would not see it."""
        with self._changed:
            if self._stopping.is_set():
                return None
            self._child = self._start_child(module, arguments, environment, first_line)
            return self._child

    def _reap(self) -> int:
        """Wait for the child's end; from then on there is none."""
        child = self._child
        code = child.wait() if child is not None else 0
        with self._changed:
            self._child = None
            self._endpoint = None
        return code

    def _abandon(self) -> None:
        """End a child that nobody looks after any more."""
        if self._child is not None:
            self._child.stop()
            self._reap()

    def _note(self, history: do.History) -> None:
        with self._changed:
            if not self._stopping.is_set() or history.state == "stopped":
                self._history = history
            self._changed.notify_all()

    def _report(self, event: do.Event, action: do.Action) -> None:
        match event, action:
            case _, do.Fetch(preset):
                self._on_event("engine.fetching", {"model": preset.name, "bytes": preset.size_bytes})
            case _, do.Launch(path):
                self._on_event("engine.starting", {"model": self._model, "file": str(path)})
            case do.Ready(), _:
                took_s = round(self._clock() - self._launched_s, 1)
                self._on_event("engine.ready", {"model": self._model, "pid": self.status().pid, "after_s": took_s})
            case _, do.GiveUp(reason):
                self._on_event("engine.failed", {"model": self._model, "reason": reason})
            case do.FileFault(reason, _), do.Pause(delay_s):
                self._on_event("engine.fetch_failed", {"model": self._model, "reason": reason, "next_try_s": delay_s})
            case ((do.Ended(reason) | do.Refused(reason, _)), do.Pause(delay_s)):
                self._on_event("engine.died", {"model": self._model, "reason": reason, "next_try_s": delay_s})
            case _:
                return


def _why(child: ChildProcess | None) -> str:
    """The end of what a child said while it started."""
    lines = [line for line in (child.tail if child else ()) if line.strip()]
    return f" ({lines[-1].strip()})" if lines else ""
