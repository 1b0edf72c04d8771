"""The embedded models, from the first that answers to the best that this machine has room for.

    small ──ready──> fetch the best, load it ──ready──> new calls go to the best; the small one ends once it is idle
                          └──can't be had───> the next one below it          └──away for `PATIENCE_S`──> the small one again

Where the better one's file is there already, it is started at once, and the small one only where that takes long. Each of them is an
`EmbeddedEngine`; a thread looks at them whenever one of them tells something. Events of its own, for the log: `engine.climbing`,
`engine.switched`, `engine.kept`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from compat.config.sections import EmbeddedSettings
from compat.engine.base import Endpoint, Engine, EngineStatus, Patience
from compat.engine.embedded import EmbeddedEngine
from compat.engine.model_file import ModelFileError, cache_folder, locate
from compat.engine.presets import LADDER, PRESETS, SMALL, Preset
from compat.engine.program import is_busy
from compat.engine.room import Room, room_of
from compat.errors import NoUpstream

OnEvent = Callable[[str, Mapping[str, object]], None]
MakeEngine = Callable[..., EmbeddedEngine]

PATIENCE_S, FIRST_PATIENCE_S = 5.0, 30.0
"""So long calls wait for a better one that was there and is not, or that was not there yet; then the small one comes."""
GRACE_S = 3.0
"""A call that knows of the old one has connected by then."""
MAX_DRAIN_S = 900.0
_LOOK_S = 0.5
AUTO, KEEP_SMALL = "auto", "small"
NAME = "embedded-model"
"""What the model is called where it is not known beforehand which one it is."""


def settled(settings: EmbeddedSettings, environment: Mapping[str, str]) -> EmbeddedSettings:
    """The settings with `small` as the preset that it is; so is `auto` where `CI` is set, so that nobody's tests fetch a gigabyte."""
    is_ci = environment.get("CI", "").lower() not in {"", "0", "false", "no"}
    keeps_small = settings.model == KEEP_SMALL or (settings.model == AUTO and is_ci)
    return msgspec.structs.replace(settings, model=SMALL.name) if keeps_small else settings


def name_of(settings: EmbeddedSettings) -> str:
    """What the model is called in routes and lists: the preset's name, that of its file, or `NAME`."""
    if settings.model == AUTO:
        return NAME
    return Path(settings.model).stem if settings.model.endswith(".gguf") else settings.model


def calls_tools(settings: EmbeddedSettings) -> bool:
    """Whether it calls tools that are offered to it, once the best of them is there."""
    presets = LADDER if settings.model == AUTO else [PRESETS[settings.model]] if settings.model in PRESETS else []
    return any(preset.calls_tools for preset in presets)


def engine_of(settings: EmbeddedSettings, on_event: OnEvent, make_engine: MakeEngine = EmbeddedEngine) -> Engine:
    """The engine for settings that are `settled`: of one model, or a ladder of several."""
    return Ladder(settings, on_event, make_engine) if settings.model == AUTO else make_engine(settings, on_event)


class Ladder(Engine):
    """Mutable: the engines, which candidates are left, and since when the better one is away, or the small one unwanted. One thread changes
    them; a lock is there for the beginning and the end."""

    def __init__(
        self,
        settings: EmbeddedSettings,
        on_event: OnEvent,
        make_engine: MakeEngine,
        *,
        room: Callable[[Path], Room] = room_of,
        asks_busy: Callable[[str, str], bool] = is_busy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.patience = Patience(settings.max_prompt_s)
        self._settings = settings
        self._on_event = on_event
        self._make_engine = make_engine
        self._room = room
        self._asks_busy = asks_busy
        self._clock = clock
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._candidates = list(LADDER)
        self._why_not = ""
        self._first: EmbeddedEngine = self._engine(SMALL)
        self._has_first = False
        self._better: EmbeddedEngine | None = None
        self._preset: Preset | None = None
        self._was_ready = False
        self._away_since_s: float | None = None
        self._drains_since_s: float | None = None

    @property
    def presets(self) -> Sequence[Preset]:
        """See `Engine`."""
        return (SMALL, *reversed(LADDER))

    def start(self) -> None:
        """See `Engine`."""
        if self._thread is not None:
            return
        with self._lock:
            if not self._settings.enabled or self._thread is not None or self._stopping.is_set():
                return
            self._choose()
            self._has_first = self._preset is None or not self._is_there(self._preset)
            self._thread = threading.Thread(target=self._run, name="embedded ladder", daemon=True)
        self._begin(self._front())
        self._thread.start()

    def fault(self) -> str:
        """See `Engine`."""
        return self._first.fault()

    def status(self) -> EngineStatus:
        """See `Engine`. The better one's progress is in `detail` as well."""
        front, better, preset = self._front(), self._better, self._preset
        status = front.status()
        if better is None or preset is None:
            return replace(status, better_detail=self._why_not)
        if better is front:
            return status
        its = better.status()
        detail = "waits for the small one" if its.state == "stopped" else its.detail
        return replace(status, detail=f"{status.detail}; {preset.name}: {detail}", better=preset.name, better_detail=detail)

    def endpoint(self, timeout_s: float) -> Endpoint | None:
        """See `Engine`."""
        self.start()
        front = self._front()
        try:
            return front.endpoint(timeout_s)
        except NoUpstream:
            if self._front() is front or self._stopping.is_set():
                raise
            return None  # there is another one by now

    def stop(self) -> None:
        """See `Engine`."""
        with self._lock:
            self._stopping.set()
            engines = [engine for engine in (self._better, self._first) if engine is not None]
        self._told.set()
        stops = [threading.Thread(target=engine.stop) for engine in engines]
        for thread in stops:
            thread.start()
        for thread in stops:
            thread.join()

    def _begin(self, engine: EmbeddedEngine) -> None:
        """Start one of ours; after `stop` nothing is started that it would not end."""
        with self._lock:
            if not self._stopping.is_set():
                engine.start()

    def _engine(self, preset: Preset) -> EmbeddedEngine:
        settings = msgspec.structs.replace(self._settings, model=preset.name)
        if not preset.memory_bytes:
            return self._make_engine(settings, self._tell)
        return self._make_engine(settings, self._tell, lacks=lambda: self._lacks_memory(preset.running_bytes))

    def _tell(self, name: str, fields: Mapping[str, object]) -> None:
        self._on_event(name, fields)
        self._told.set()

    def _front(self) -> EmbeddedEngine:
        """The one that calls go to."""
        better = self._better
        if better is None:
            return self._first
        if not self._has_first or better.status().state == "ready":
            return better
        return better if self._first.status().state == "failed" and better.status().state in {"fetching", "starting"} else self._first

    # Which one is tried.

    def _choose(self) -> None:
        """Make the engine of the best candidate that is left, if the machine has room for one."""
        self._better = self._preset = None
        while self._candidates:
            preset = self._candidates.pop(0)
            lacking = self._lacks_room(preset)
            if not lacking:
                self._preset, self._better, self._why_not = preset, self._engine(preset), ""
                return
            self._why_not = f"{preset.name} is not fetched: {lacking}" if not self._why_not else self._why_not
            self._on_event("engine.kept", {"model": preset.name, "reason": lacking})

    def _lacks_room(self, preset: Preset) -> str:
        lacking = self._lacks_memory(preset.memory_bytes)
        if lacking or self._is_there(preset):
            return lacking
        folder = cache_folder(self._settings)
        free = self._room(folder).disk_bytes
        if free < preset.disk_bytes:
            return f"it needs {preset.disk_bytes / 1e9:.1f} GB of disk, {free / 1e9:.1f} are free in {folder}"
        return ""

    def _lacks_memory(self, wanted_bytes: int) -> str:
        free = self._room(cache_folder(self._settings)).memory_bytes
        return f"it needs {wanted_bytes / 1e9:.1f} GB of memory, {free / 1e9:.1f} are free" if free < wanted_bytes else ""

    def _is_there(self, preset: Preset) -> bool:
        """Whether nothing has to be fetched."""
        try:
            return isinstance(locate(msgspec.structs.replace(self._settings, model=preset.name)), Path)
        except ModelFileError:
            return False

    # What happens to them.

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._told.wait(_LOOK_S)
            self._told.clear()

    def look(self) -> None:
        """One look at both, and what follows from it."""
        better = self._better
        if better is None:
            return
        state = better.status().state
        if better.has_given_up:
            self._fall(better)
        elif state == "stopped":
            if self._first.status().state in {"ready", "failed"}:
                self._on_event("engine.climbing", {"model": better.status().model})
                self._begin(better)
        elif state == "ready":
            if self._away_since_s is not None or not self._was_ready:
                self._on_event("engine.switched", {"model": better.status().model})
            self._was_ready, self._away_since_s = True, None
            if self._has_first:
                self._drain()
        else:
            self._miss()

    def _fall(self, better: EmbeddedEngine) -> None:
        """This one can't be had: the next one below it, and the small one meanwhile."""
        status = better.status()
        self._bring_first()
        self._choose()
        self._why_not = self._why_not or f"{status.model} can't be had: {status.detail}"
        better.stop()
        self._told.set()

    def _miss(self) -> None:
        """The better one is not there: after a while the small one is."""
        self._drains_since_s = None
        now_s = self._clock()
        if self._away_since_s is None:
            self._away_since_s = now_s
        if not self._has_first and now_s - self._away_since_s >= (PATIENCE_S if self._was_ready else FIRST_PATIENCE_S):
            self._bring_first()

    def _bring_first(self) -> None:
        if not self._has_first:
            self._first = self._engine(SMALL)
            self._begin(self._first)
            self._has_first = True

    def _drain(self) -> None:
        """End the small one once nobody waits for it any more."""
        now_s = self._clock()
        if self._drains_since_s is None:
            self._drains_since_s = now_s
        waited_s = now_s - self._drains_since_s
        if waited_s >= MAX_DRAIN_S or (waited_s >= GRACE_S and self._is_idle(self._first)):
            self._drains_since_s = None
            self._has_first = False
            self._first.stop()

    def _is_idle(self, engine: EmbeddedEngine) -> bool:
        try:
            endpoint = engine.endpoint(0)
        except NoUpstream:
            return True
        return endpoint is None or not self._asks_busy(endpoint.base_url, endpoint.api_key)
