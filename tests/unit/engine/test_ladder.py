"""The ladder over scripted engines: which model is tried, when the better one takes over, and what happens where one of them is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from compat.config.sections import EmbeddedSettings
from compat.engine.base import Endpoint, EngineStatus
from compat.engine.embedded import EmbeddedEngine
from compat.engine.ladder import FIRST_PATIENCE_S, GRACE_S, MAX_DRAIN_S, NAME, PATIENCE_S, Ladder, calls_tools, engine_of, name_of
from compat.engine.model_file import cached_path, write_stamp
from compat.engine.presets import BEST, MIDDLE, SMALL, Preset
from compat.engine.room import Room
from compat.engine.supervisor import State
from compat.errors import NoUpstream

GB = 1_000_000_000
PLENTY = Room(16 * GB, 100 * GB)


class FakeEngine(EmbeddedEngine):
    """Is what it was told to be."""

    def __init__(
        self, settings: EmbeddedSettings, on_event: Callable[[str, Mapping[str, object]], None], lacks: Callable[[], str] = lambda: ""
    ) -> None:
        super().__init__(settings, on_event, is_installed=lambda: True)
        self.tell, self.lacks = on_event, lacks
        self.name = settings.model
        self.state: State = "stopped"
        self.detail = "not started"
        self.is_started = self.is_stopped = False

    def start(self) -> None:
        self.is_started = True
        self.state = "starting"

    def become(self, state: State, detail: str = "", *, has_given_up: bool = False) -> None:
        self.state, self.detail, self.has_given_up = state, detail or state, has_given_up
        self.tell("fake.changed", {"model": self.name})

    def status(self) -> EngineStatus:
        return EngineStatus(self.state, self.detail, self.name, 1, 8192, 0)

    def endpoint(self, timeout_s: float) -> Endpoint | None:
        if self.state == "failed":
            raise NoUpstream(f"The embedded model can't answer: {self.detail}.")
        return Endpoint(f"http://{self.name}", "key", self.name) if self.state == "ready" else None

    def stop(self) -> None:
        self.state = "stopped"
        self.is_stopped = True


class StillLadder(Ladder):
    """Looks when it is told to, and never by itself."""

    def _run(self) -> None:
        pass


class Stage:
    """A ladder and all that it meets."""

    def __init__(self, folder: Path, room: Room, **settings: Any) -> None:
        self.engines: list[FakeEngine] = []
        self.room, self.now_s, self.busy = room, 0.0, False
        self.events: list[tuple[str, Mapping[str, object]]] = []
        self.asked: list[tuple[str, str]] = []
        self.ladder = StillLadder(
            EmbeddedSettings(model="auto", cache_dir=str(folder), **settings),
            self._on_event,
            self._make,
            room=lambda _folder: self.room,
            asks_busy=self._asks_busy,
            clock=lambda: self.now_s,
        )

    def _make(self, *given: Any, **rest: Any) -> FakeEngine:
        self.engines.append(FakeEngine(*given, **rest))
        return self.engines[-1]

    def _asks_busy(self, url: str, key: str) -> bool:
        self.asked.append((url, key))
        return self.busy

    def _on_event(self, name: str, fields: Mapping[str, object]) -> None:
        self.events.append((name, fields))
        if name == "fake.changed":
            self.ladder.look()

    def told(self, name: str) -> list[object]:
        """The models of the events of that name."""
        return [fields["model"] for told, fields in self.events if told == name]

    def engine(self, preset: Preset, number: int = 0) -> FakeEngine:
        """The preset's engine, which was started."""
        engine = [engine for engine in self.engines if engine.name == preset.name][number]
        assert engine.is_started
        return engine

    def looks_at(self, now_s: float) -> None:
        """Have the ladder look, at a time."""
        self.now_s = now_s
        self.ladder.look()

    @property
    def answers(self) -> str:
        """Which model a call gets now; empty while it waits."""
        endpoint = self.ladder.endpoint(0)
        return endpoint.model if endpoint is not None else ""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Any]:
    stages: list[Stage] = []

    def make(room: Room = PLENTY, **settings: Any) -> Stage:
        stages.append(Stage(tmp_path, room, **settings))
        stages[-1].ladder.start()
        return stages[-1]

    yield make
    for one in stages:
        one.ladder.stop()


def put(preset: Preset, folder: Path) -> None:
    """Have the preset's file there."""
    path = cached_path(preset, folder)
    path.write_bytes(b"GGUF")
    write_stamp(path, preset.sha256)


def climbed(one: Stage, preset: Preset = BEST) -> tuple[FakeEngine, FakeEngine]:
    """The small one answers, and the better one is ready."""
    first = one.engine(SMALL)
    first.become("ready")
    better = one.engine(preset)
    better.become("ready")
    assert one.told("engine.switched") == [preset.name]
    return first, better


# Which one is tried.


@pytest.mark.parametrize(
    ("room", "chosen"),
    [
        (PLENTY, BEST),
        (Room(4 * GB, 3 * GB), BEST),
        (Room(4 * GB - 1, 100 * GB), MIDDLE),
        (Room(16 * GB, 3 * GB - 1), MIDDLE),
        (Room(2 * GB, 3 * GB // 2), MIDDLE),
        (Room(2 * GB - 1, 100 * GB), None),
        (Room(16 * GB, 1 * GB), None),
    ],
    ids=["plenty", "just enough", "less memory", "less disk", "just enough for the middle one", "little memory", "little disk"],
)
def test_the_best_that_the_machine_has_room_for_is_fetched(stage: Any, room: Room, chosen: Preset | None) -> None:
    one = stage(room)
    first = one.engine(SMALL)
    assert [engine.name for engine in one.engines if engine.is_started] == [SMALL.name], "the small one first"
    first.become("ready")
    assert one.answers == SMALL.name
    if chosen is None:
        assert one.ladder.status().better == ""
        assert one.ladder.status().better_detail.startswith(f"{BEST.name} is not fetched: it needs")
        assert one.told("engine.kept") == [BEST.name, MIDDLE.name]
    else:
        assert one.engine(chosen).is_started
        assert one.told("engine.climbing") == [chosen.name]
        assert one.ladder.status().better == chosen.name


def test_how_far_the_better_one_is_is_said(stage: Any) -> None:
    one = stage()
    first = one.engine(SMALL)
    assert one.ladder.status().better_detail == "waits for the small one"
    first.become("ready")
    one.engine(BEST).become("fetching", "fetching 300 of 1117 MB")
    status = one.ladder.status()
    assert (status.state, status.model, status.better) == ("ready", SMALL.name, BEST.name)
    assert (status.detail, status.better_detail) == (f"ready; {BEST.name}: fetching 300 of 1117 MB", "fetching 300 of 1117 MB")


def test_a_better_one_that_was_fetched_before_is_started_at_once_and_alone(stage: Any, tmp_path: Path) -> None:
    put(BEST, tmp_path)
    one = stage(Room(4 * GB, 0))
    better = one.engine(BEST)
    assert one.answers == ""
    better.become("ready")
    assert one.answers == BEST.name
    assert [engine.name for engine in one.engines if engine.is_started] == [BEST.name]
    assert (one.ladder.status().model, one.ladder.status().better) == (BEST.name, "")


def test_one_that_takes_long_to_load_has_the_small_one_answer_meanwhile(stage: Any, tmp_path: Path) -> None:
    put(BEST, tmp_path)
    one = stage()
    one.engine(BEST).become("starting")
    one.looks_at(FIRST_PATIENCE_S - 1)
    assert not any(engine.name == SMALL.name and engine.is_started for engine in one.engines)
    one.looks_at(FIRST_PATIENCE_S)
    one.engine(SMALL, 1).become("ready")
    assert one.answers == SMALL.name


def test_too_little_memory_when_it_is_to_be_started_is_told(stage: Any) -> None:
    one = stage()
    one.engine(SMALL).become("ready")
    better = one.engine(BEST)
    assert better.lacks() == ""
    one.room = Room(2 * GB, 100 * GB)
    assert better.lacks() == "it needs 2.2 GB of memory, 2.0 are free"


# The switch.


def test_new_calls_go_to_the_better_one_and_the_small_one_ends_when_it_is_idle(stage: Any) -> None:
    one = stage()
    one.busy = True
    first, _ = climbed(one)
    assert one.answers == BEST.name
    one.looks_at(GRACE_S)
    assert not first.is_stopped, "it answers somebody"
    one.busy = False
    one.looks_at(GRACE_S)
    assert first.is_stopped
    assert one.asked[-1] == (f"http://{SMALL.name}", "key")
    assert one.answers == BEST.name


def test_an_answer_that_never_ends_does_not_keep_the_small_one_for_ever(stage: Any) -> None:
    one = stage()
    one.busy = True
    first, _ = climbed(one)
    one.looks_at(MAX_DRAIN_S - 1)
    assert not first.is_stopped
    one.looks_at(MAX_DRAIN_S)
    assert first.is_stopped


def test_a_better_one_that_is_killed_in_the_switch_leaves_calls_to_the_small_one(stage: Any) -> None:
    one = stage()
    first, better = climbed(one)
    better.become("starting", "the engine ended by SIGKILL")
    assert one.answers == SMALL.name
    one.looks_at(GRACE_S)
    assert not first.is_stopped
    better.become("ready")
    assert one.told("engine.switched") == [BEST.name] * 2
    assert one.answers == BEST.name
    one.looks_at(2 * GRACE_S - 1)
    assert not first.is_stopped, "its time begins anew"


def test_calls_wait_for_a_better_one_that_died_and_after_a_while_the_small_one_comes_back(stage: Any) -> None:
    one = stage()
    first, better = climbed(one)
    one.looks_at(GRACE_S)
    assert first.is_stopped
    better.become("starting", "the engine ended by SIGKILL")
    assert one.answers == "", "it is started again"
    one.looks_at(GRACE_S + PATIENCE_S - 1)
    assert len(one.engines) == 2
    one.looks_at(GRACE_S + PATIENCE_S)
    one.engine(SMALL, 1).become("ready")
    assert one.answers == SMALL.name
    better.become("ready")
    assert one.answers == BEST.name
    assert one.told("engine.switched") == [BEST.name] * 2


def test_a_better_one_that_can_not_be_had_is_replaced_by_the_next(stage: Any) -> None:
    one = stage()
    one.engine(SMALL).become("ready")
    one.engine(BEST).become("failed", "wrong hash", has_given_up=True)
    one.looks_at(0)
    one.engine(MIDDLE).become("ready")
    assert one.told("engine.switched") == [MIDDLE.name]
    assert one.answers == MIDDLE.name


def test_where_none_can_be_had_the_small_one_stays_and_says_why(stage: Any) -> None:
    one = stage()
    first = one.engine(SMALL)
    first.become("ready")
    one.engine(BEST).become("failed", "wrong hash", has_given_up=True)
    one.looks_at(0)
    last = one.engine(MIDDLE)
    last.become("failed", "no memory", has_given_up=True)
    assert last.is_stopped
    status = one.ladder.status()
    assert (status.model, status.better, status.better_detail) == (SMALL.name, "", f"{BEST.name} can't be had: wrong hash")
    assert one.answers == SMALL.name
    assert not first.is_stopped


def test_a_fetch_that_fails_for_now_leaves_the_small_one_to_answer(stage: Any) -> None:
    one = stage()
    one.engine(SMALL).become("ready")
    one.engine(BEST).become("failed", "the disk is full; next try in 5 s")
    assert one.answers == SMALL.name
    assert "the disk is full" in one.ladder.status().detail


def test_where_the_small_one_can_not_be_had_calls_wait_for_the_better_one(stage: Any) -> None:
    one = stage()
    first = one.engine(SMALL)
    first.become("failed", "gone")
    better = one.engine(BEST)
    assert one.answers == ""
    better.become("ready")
    assert one.answers == BEST.name
    better.become("failed", "gone as well")
    with pytest.raises(NoUpstream, match="gone"):
        one.ladder.endpoint(0)


# The end.


def test_stop_ends_both(stage: Any) -> None:
    one = stage()
    first, better = climbed(one)
    one.ladder.stop()
    assert first.is_stopped
    assert better.is_stopped
    one.ladder.start()


def test_what_is_switched_off_is_never_started(stage: Any) -> None:
    one = stage(enabled=False)
    assert not any(engine.is_started for engine in one.engines)


def test_one_model_has_no_ladder(tmp_path: Path) -> None:
    fixed = engine_of(EmbeddedSettings(model=SMALL.name, cache_dir=str(tmp_path)), lambda _name, _fields: None)
    assert (type(fixed), fixed.status().model) == (EmbeddedEngine, SMALL.name)
    assert isinstance(engine_of(EmbeddedSettings(), lambda _name, _fields: None), Ladder)


@pytest.mark.parametrize(
    ("model", "name", "tools"),
    [("auto", NAME, True), (SMALL.name, SMALL.name, False), (BEST.name, BEST.name, True), ("a/b.gguf", "b", False)],
)
def test_what_it_is_called_and_whether_it_calls_tools(model: str, name: str, tools: bool) -> None:
    settings = EmbeddedSettings(model=model)
    assert (name_of(settings), calls_tools(settings)) == (name, tools)


def test_its_fault_is_the_small_ones(tmp_path: Path) -> None:
    assert Stage(tmp_path, PLENTY).ladder.fault() == ""


def test_its_thread_looks_at_them_whenever_one_tells_something(tmp_path: Path) -> None:
    engines: list[FakeEngine] = []

    def make(*given: Any, **rest: Any) -> FakeEngine:
        engines.append(FakeEngine(*given, **rest))
        return engines[-1]

    is_climbing = threading.Event()
    settings = EmbeddedSettings(cache_dir=str(tmp_path))
    ladder = Ladder(settings, lambda name, _fields: name == "engine.climbing" and is_climbing.set(), make, room=lambda _folder: PLENTY)
    assert ladder.endpoint(0) is None
    next(engine for engine in engines if engine.name == SMALL.name).become("ready")
    assert is_climbing.wait(10)
    ladder.stop()
    assert all(engine.is_stopped for engine in engines)
