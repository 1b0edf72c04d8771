"""The embedded model as the gateway uses it: fetched on first use, run as a child, started again when it dies, gone when the gateway is.

    stopped -> fetching -> starting -> ready -> starting (it died) ... ; failed: only a person can help, or the next try comes later

A thread of its own does the work; `endpoint` waits for it in steps, so that a call can send heartbeats meanwhile.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from compat.errors import NoUpstream
from compat.process.child import Child
from compat.process.model_file import ModelFileError, Preset, cache_folder, locate
from compat.process.progress import FetchProgress
from compat.process.supervisor import Restarts
from compat.settings import EmbeddedSettings

FETCH_RETRY_S = 30.0

State = Literal["stopped", "fetching", "starting", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine does just now; `detail` is for people."""

    state: State
    detail: str
    model: str
    pid: int | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the engine answers, and the key it wants."""

    base_url: str
    api_key: str
    model: str


class ChildProcess(Protocol):
    """What is needed of `Child`."""

    @property
    def pid(self) -> int: ...
    @property
    def tail(self) -> str: ...
    def read(self) -> dict[str, Any] | None: ...
    def wait(self) -> int: ...
    def stop(self, bound_s: float = 2.0) -> None: ...


class EmbeddedEngine:
    """Supervises the engine. Mutable: the status, the endpoint, the child; changed under one condition, by one thread."""

    def __init__(
        self,
        settings: EmbeddedSettings,
        on_event: Callable[[str, Mapping[str, object]], None],
        start_child: Callable[..., ChildProcess] = Child,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._on_event = on_event
        self._start_child = start_child
        self._clock = clock
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._child: ChildProcess | None = None
        self._endpoint: Endpoint | None = None
        self._status = EngineStatus("stopped", "not started", Path(settings.model).stem if "/" in settings.model else settings.model)

    def start(self) -> None:
        """Begin to fetch and to run the model in the background; does nothing when that has begun."""
        with self._changed:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="embedded engine", daemon=True)
                self._thread.start()

    def status(self) -> EngineStatus:
        """What it does just now."""
        return self._status

    def endpoint(self, timeout_s: float) -> Endpoint | None:
        """Where it answers, waiting for at most `timeout_s`; `None` when it is not ready yet. Starts it when nobody did.

        Errors: `NoUpstream` when it failed.
        """
        self.start()
        with self._changed:
            if self._endpoint is None and self._status.state != "failed":
                self._changed.wait(timeout_s)
            if self._endpoint is None and self._status.state == "failed":
                raise NoUpstream(f"No upstream is configured, and the embedded model failed: {self._status.detail}")
            return self._endpoint

    def stop(self) -> None:
        """End the engine; it is gone when this returns."""
        self._stopping.set()
        child = self._child
        if child is not None:
            child.stop()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._set("stopped", "stopped")

    def _run(self) -> None:
        path = self._obtain_file()
        restarts = Restarts()
        while path is not None and not self._stopping.is_set():
            was_ready, ran_s, reason = self._run_child(path)
            if self._stopping.is_set():
                return
            restarts = restarts.after_end(was_ready=was_ready, ran_s=ran_s)
            self._on_event("engine.died", {"after_s": round(ran_s, 1), "reason": reason, "next_start_s": restarts.delay_s})
            if restarts.is_hopeless:
                self._set("failed", reason)
                self._on_event("engine.failed", {"reason": reason})
                return
            self._status = replace(self._status, restarts=self._status.restarts + 1)
            self._set("starting", f"starts again after it ended: {reason}")
            self._stopping.wait(restarts.delay_s)

    def _obtain_file(self) -> Path | None:
        """The model's file, fetched if need be; a fetch that failed is tried again later, a wrong setting is final."""
        folder = cache_folder(self._settings.cache_dir)
        while not self._stopping.is_set():
            try:
                found = locate(self._settings.model, folder)
                return found if isinstance(found, Path) else self._fetch(found, folder)
            except ModelFileError as error:
                self._set("failed", str(error))
                self._on_event("engine.failed", {"reason": str(error)})
                if not isinstance(error, _FetchError):
                    return None
                self._stopping.wait(FETCH_RETRY_S)
        return None

    def _fetch(self, preset: Preset, folder: Path) -> Path:
        self._set("fetching", f"fetching {preset.name}")
        self._on_event("engine.fetching", {"model": preset.name, "bytes": preset.download_bytes})
        progress = FetchProgress(preset.name)
        child = self._child = self._start_child("compat.process.model_file", [preset.name, str(folder)])
        path: Path | None = None
        reason = ""
        while (message := child.read()) is not None:
            if "done" in message:
                done, total = int(message["done"]), int(message["total"])
                progress.update(done, total)
                self._set("fetching", f"fetching {done // 1_000_000} of {total // 1_000_000} MB")
            path = Path(message["path"]) if "path" in message else path
            reason = str(message.get("error", reason))
        child.wait()
        self._child = None
        progress.close()
        if path is None:
            raise _FetchError(reason or child.tail or "the fetch ended without a word")
        return path

    def _run_child(self, path: Path) -> tuple[bool, float, str]:
        """One life of the engine: whether it became ready, how long it ran, and why it ended."""
        self._set("starting", "loading the model")
        started_s = self._clock()
        api_key = secrets.token_urlsafe(24)
        settings = self._settings
        parameters = {
            "path": str(path),
            "name": self._status.model,
            "context_tokens": settings.context_tokens,
            "parallel": settings.parallel,
            "threads": settings.threads,
            "api_key": api_key,
        }
        extra = {"OMP_WAIT_POLICY": "passive"}  # else idle threads spin: 9 instead of 38 tokens a second beside a busy gateway
        child = self._child = self._start_child("compat.process.engine", extra=extra, first_line=parameters)
        message = child.read()
        if message is not None and "address" in message:
            self._status = replace(self._status, pid=child.pid)
            self._set("ready", "ready", Endpoint(str(message["address"]), api_key, self._status.model))
            self._on_event("engine.ready", {"pid": child.pid, "after_s": round(self._clock() - started_s, 1)})
        code = child.wait()
        self._child = None
        self._status = replace(self._status, pid=None)
        last_line = child.tail.splitlines()[-1] if child.tail else f"it ended with status {code}"
        return message is not None, self._clock() - started_s, last_line

    def _set(self, state: State, detail: str, endpoint: Endpoint | None = None) -> None:
        with self._changed:
            self._status = replace(self._status, state=state, detail=detail)
            self._endpoint = endpoint
            self._changed.notify_all()


class _FetchError(ModelFileError):
    """A fetch that failed: the next one may succeed."""
