"""The embedded engine before scripted children: fetched, started, started again, given up, stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.config.sections import EmbeddedSettings
from compat.engine.base import Endpoint
from compat.engine.model_file import cached_path
from compat.engine.presets import PRESETS
from compat.errors import NoUpstream
from tests.unit.engine.fake_child import BOUND_S, READY, FakeChild, Stage, with_file

PRESET = PRESETS["smollm2-135m-instruct"]
TOTAL = PRESET.size_bytes


@pytest.fixture
def stage() -> Iterator[Any]:
    stages: list[Stage] = []

    def make(settings: EmbeddedSettings, *children: FakeChild | OSError, **rest: Any) -> Stage:
        stages.append(Stage(settings, list(children), **rest))
        return stages[-1]

    yield make
    for one in stages:
        one.engine.stop()


def test_a_model_file_of_the_users_is_served(stage: Any, tmp_path: Path) -> None:
    one = stage(with_file(tmp_path), FakeChild(READY))
    endpoint = one.engine.endpoint(BOUND_S)
    assert (endpoint.base_url, endpoint.model) == ("http://127.0.0.1:40001", "tiny")
    one.wait_for("engine.ready")
    assert one.names == ["engine.starting", "engine.ready"]
    assert (one.status.state, one.status.detail, one.status.model, one.status.pid) == ("ready", "ready", "tiny", 4242)
    assert (one.status.restarts, one.status.context_tokens) == (0, 8192)


def test_the_child_is_told_what_to_serve_and_its_key_in_private(stage: Any, tmp_path: Path) -> None:
    environment = {"PATH": "/bin", "OPENAI_API_KEY": "canary", "HTTPS_PROXY": "canary"}
    one = stage(with_file(tmp_path, context_tokens=100, parallel=2, threads=3), FakeChild(READY), environment=environment)
    endpoint = one.engine.endpoint(BOUND_S)
    (child,) = one.started
    assert (child.module, list(child.arguments)) == ("compat.engine.program", [])
    assert child.environment["OMP_WAIT_POLICY"] == "passive"
    assert "canary" not in str(child.environment)
    assert child.first_line == {
        "path": str(tmp_path / "tiny.gguf"),
        "sha256": "",
        "name": "tiny",
        "context_tokens": 100,
        "default_max_tokens": 25,
        "sampling": {},
        "template": "",
        "parallel": 2,
        "threads": 3,
        "api_key": endpoint.api_key,
    }
    assert len(endpoint.api_key) >= 24
    assert endpoint.api_key not in f"{endpoint!r} {endpoint} {one.events} {one.status} {child.environment}"


def test_an_endpoint_can_be_shown() -> None:
    assert repr(Endpoint("http://127.0.0.1:1", "canary", "m")) == "Endpoint('http://127.0.0.1:1', model='m')"


@pytest.mark.parametrize(("wanted", "context_tokens"), [(512, 512), (8192, 8192), (100_000, 8192)])
def test_a_preset_has_no_more_context_than_it_was_trained_for(stage: Any, tmp_path: Path, wanted: int, context_tokens: int) -> None:
    one = stage(EmbeddedSettings(model=PRESET.name, context_tokens=wanted, cache_dir=str(tmp_path)))
    assert one.status.context_tokens == context_tokens


def test_nothing_is_started_before_it_is_wanted(stage: Any, tmp_path: Path) -> None:
    one = stage(with_file(tmp_path))
    assert (one.status.state, one.status.pid) == ("stopped", None)
    assert one.started == []


def test_it_is_started_once_however_often_it_is_wanted(stage: Any, tmp_path: Path) -> None:
    one = stage(with_file(tmp_path), FakeChild(READY))
    for _ in range(3):
        one.engine.start()
    assert one.engine.endpoint(BOUND_S) == one.engine.endpoint(BOUND_S)
    assert len(one.started) == 1


def test_a_caller_gets_control_back_while_it_loads(stage: Any, tmp_path: Path) -> None:
    child = FakeChild()
    one = stage(with_file(tmp_path), child)
    assert one.engine.endpoint(0.001) is None
    one.wait_for("engine.starting")
    assert one.engine.endpoint(0.001) is None
    assert (one.status.state, one.status.detail) == ("starting", "loading the model")
    child.say(READY)
    assert one.engine.endpoint(BOUND_S) is not None


# Fetching.


def fetching(stage: Any, tmp_path: Path, *children: FakeChild, **rest: Any) -> Stage:
    one: Stage = stage(EmbeddedSettings(model=PRESET.name, cache_dir=str(tmp_path)), *children, **rest)
    one.engine.start()
    return one


def test_a_preset_is_fetched_by_a_child_of_its_own_and_then_served(stage: Any, tmp_path: Path) -> None:
    path = str(cached_path(PRESET, tmp_path))
    fetcher = FakeChild({"done": 10_000_000, "total": TOTAL}, {"done": TOTAL, "total": TOTAL}, {"path": path}, code=0)
    environment = {"PATH": "/bin", "https_proxy": "http://proxy.test", "PIP_INDEX_URL": "x", "OPENAI_API_KEY": "canary"}
    one = fetching(stage, tmp_path, fetcher, FakeChild(READY), environment=environment)
    assert one.engine.endpoint(BOUND_S).model == PRESET.name
    one.wait_for("engine.ready")
    assert one.names == ["engine.fetching", "engine.starting", "engine.ready"]
    assert (fetcher.module, list(fetcher.arguments)) == ("compat.engine.fetch", [PRESET.name, str(tmp_path)])
    assert {"https_proxy", "PIP_INDEX_URL"} <= set(fetcher.environment)
    assert "canary" not in str(fetcher.environment)
    assert "https_proxy" not in one.started[1].environment
    assert (one.progress.seen, one.progress.is_closed) == ([(10_000_000, TOTAL), (TOTAL, TOTAL)], True)
    told = one.started[1].first_line
    assert told["sha256"] == PRESET.sha256
    assert (told["path"], told["default_max_tokens"], told["sampling"]) == (path, PRESET.answer_tokens, dict(PRESET.sampling))


def test_how_far_a_fetch_is_can_be_seen(stage: Any, tmp_path: Path) -> None:
    one = fetching(stage, tmp_path, FakeChild({"done": 46_000_000, "total": TOTAL}))
    one.wait_for("engine.fetching")
    deadline_s = time.monotonic() + BOUND_S
    while "46 of 98" not in one.status.detail and time.monotonic() < deadline_s:
        time.sleep(0.001)
    assert (one.status.state, one.status.detail, one.status.pid) == ("fetching", "fetching 46 of 98 MB", None)
    assert one.engine.endpoint(0.001) is None


@pytest.mark.slow
def test_a_source_that_is_gone_is_told_and_asked_no_more_where_it_is_bad(stage: Any, tmp_path: Path) -> None:
    lost = {"lost": "hub.test", "reason": "hub.test has another file", "permanent": True}
    first = FakeChild({"done": 0, "total": TOTAL}, lost, {"done": 46_000_000, "total": TOTAL}, {"error": "no network"}, code=1)
    one = fetching(stage, tmp_path, first, FakeChild({"error": "enough", "permanent": True}, code=1))
    assert dict(one.wait_for("engine.source_lost")) == {"model": PRESET.name, "source": "hub.test", "reason": "hub.test has another file"}
    one.wait_for("engine.failed")
    assert [list(child.arguments)[2:] for child in one.started] == [[], ["hub.test"]]
    assert one.progress.seen[-1] == (46_000_000, TOTAL)


def test_why_another_source_is_asked_can_be_seen(stage: Any, tmp_path: Path) -> None:
    lost = {"lost": "hub.test", "reason": "hub.test can't be reached", "permanent": False}
    one = fetching(stage, tmp_path, FakeChild(lost, {"done": 46_000_000, "total": TOTAL}))
    deadline_s = time.monotonic() + BOUND_S
    while "46 of 98" not in one.status.detail and time.monotonic() < deadline_s:
        time.sleep(0.001)
    assert one.status.detail == "fetching 46 of 98 MB (hub.test can't be reached)"


@pytest.mark.parametrize(
    ("child", "event", "reason"),
    [
        (FakeChild({"error": "wrong hash", "permanent": True}, code=1), "engine.failed", "wrong hash"),
        (FakeChild({"error": "no network", "permanent": False}, code=1), "engine.fetch_failed", "no network"),
        (FakeChild({"error": "no network"}, code=1), "engine.fetch_failed", "no network"),
        (
            FakeChild({"done": 1, "total": 2}, code=-9, tail=("first", "Killed ", "")),
            "engine.fetch_failed",
            f"fetching {PRESET.name} ended by SIGKILL (out of memory?) (Killed)",
        ),
    ],
    ids=["for good", "for now", "unsaid", "killed"],
)
def test_a_fetch_that_fails_is_told_and_refuses_calls(stage: Any, tmp_path: Path, child: FakeChild, event: str, reason: str) -> None:
    one = fetching(stage, tmp_path, child)
    fields = one.wait_for(event)
    assert fields["reason"] == reason
    assert ("next_try_s" in fields) == (event == "engine.fetch_failed")
    assert one.progress.is_closed
    with pytest.raises(NoUpstream) as caught:
        one.engine.endpoint(BOUND_S)
    assert reason in caught.value.message
    assert one.status.state == "failed"


# Faults.


needs_a_person = pytest.mark.parametrize(
    ("settings", "is_installed", "words"),
    [
        (EmbeddedSettings(model="nowhere/at-all.gguf"), True, "does not exist"),
        (EmbeddedSettings(model="gpt-17"), True, "the embedded model 'gpt-17' is unknown"),
        (EmbeddedSettings(model=PRESET.name), False, "xllamacpp, is not installed"),
    ],
    ids=["no such file", "no such preset", "no engine for this platform"],
)


@needs_a_person
def test_what_only_a_person_can_cure_is_known_before_it_is_started(
    stage: Any, settings: EmbeddedSettings, is_installed: bool, words: str
) -> None:
    one = stage(settings, is_installed=is_installed)
    assert words in one.engine.fault()
    assert (one.started, one.status.state) == ([], "stopped")


def test_a_model_that_must_be_fetched_first_is_no_fault(stage: Any, tmp_path: Path) -> None:
    assert stage(EmbeddedSettings(model=PRESET.name, cache_dir=str(tmp_path))).engine.fault() == ""
    assert stage(with_file(tmp_path)).engine.fault() == ""


@needs_a_person
def test_what_only_a_person_can_cure_ends_it(stage: Any, settings: EmbeddedSettings, is_installed: bool, words: str) -> None:
    one = stage(settings, is_installed=is_installed)
    with pytest.raises(NoUpstream, match=words):
        one.engine.endpoint(BOUND_S)
    assert words in str(one.wait_for("engine.failed")["reason"])
    assert one.names == ["engine.failed"]


def test_a_file_that_the_engine_refuses_for_good_ends_it(stage: Any, tmp_path: Path) -> None:
    one = stage(with_file(tmp_path), FakeChild({"error": "not a GGUF file", "permanent": True}, code=1))
    with pytest.raises(NoUpstream, match="not a GGUF file"):
        one.engine.endpoint(BOUND_S)
    one.wait_for("engine.failed")
    assert one.names == ["engine.starting", "engine.failed"]


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (
            FakeChild(code=-11, tail=("loading", "illegal instruction")),
            "the engine ended by SIGSEGV before it was ready (illegal instruction)",
        ),
        (FakeChild({"error": "no memory", "permanent": False}, code=1, tail=("alloc failed",)), "no memory (alloc failed)"),
        (FakeChild(is_mute=True), "the engine was not ready within 300 s"),
        (OSError(12, "Cannot allocate memory"), "failed: OSError: [Errno 12] Cannot allocate memory"),
    ],
    ids=["it crashes", "it gives a reason", "it never gets ready", "it can't be started"],
)
def test_a_child_that_does_not_get_ready_is_started_again(stage: Any, tmp_path: Path, first: Any, reason: str) -> None:
    one = stage(with_file(tmp_path), first, FakeChild(READY))
    assert one.engine.endpoint(BOUND_S) is not None
    assert dict(one.wait_for("engine.died")) == {"model": "tiny", "reason": reason, "next_try_s": 0.5}
    one.wait_for("engine.ready")
    assert one.names == ["engine.starting", "engine.died", "engine.starting", "engine.ready"]
    assert one.status.restarts == 1
    if isinstance(first, FakeChild):
        assert first.is_stopped == (reason == "the engine was not ready within 300 s")


def test_how_fast_it_reads_is_known_once_it_was_measured(stage: Any, tmp_path: Path) -> None:
    child = FakeChild(READY)
    one = stage(with_file(tmp_path), child)
    assert one.engine.endpoint(BOUND_S).prompt_tokens_s == 0
    child.say({"prompt_tokens_s": 70.5})
    deadline_s = time.monotonic() + BOUND_S
    while one.engine.endpoint(0).prompt_tokens_s == 0 and time.monotonic() < deadline_s:
        time.sleep(0.001)
    assert one.engine.endpoint(0).prompt_tokens_s == 70.5


@pytest.mark.slow
def test_where_something_is_lacking_no_child_is_started(stage: Any, tmp_path: Path) -> None:
    one = stage(with_file(tmp_path), lacks=lambda: "it needs 2.2 GB of memory")
    one.engine.start()
    assert one.wait_for("engine.failed")["reason"] == "it needs 2.2 GB of memory"
    assert one.engine.has_given_up
    assert (one.started, one.status.restarts) == ([], 2)


def test_a_child_that_dies_is_replaced_and_has_another_key(stage: Any, tmp_path: Path) -> None:
    child = FakeChild(READY, tail=("a prompt, quoted",))
    one = stage(with_file(tmp_path), child, FakeChild({"address": "http://127.0.0.1:40002"}))
    first = one.engine.endpoint(BOUND_S)
    one.wait_for("engine.ready")
    child.end(-9)
    fields = one.wait_for("engine.died")
    assert fields["reason"] == "the engine ended by SIGKILL (out of memory?)", "what it said while it served is not told"
    assert one.status.pid is None
    second = one.engine.endpoint(BOUND_S)
    assert (first.base_url, second.base_url) == ("http://127.0.0.1:40001", "http://127.0.0.1:40002")
    assert first.api_key != second.api_key
    assert one.status.restarts == 1


def test_the_supervisor_outlives_a_listener_that_raises(stage: Any, tmp_path: Path) -> None:
    child = FakeChild(READY)
    one = stage(with_file(tmp_path), child, FakeChild(READY), faults_of_listener={"engine.ready": ValueError("full disk")})
    one.engine.start()
    assert one.wait_for("engine.died")["reason"] == "failed: ValueError: full disk"
    assert child.is_stopped, "nobody looks after it any more"
    one.wait_for("engine.ready", 2)
    assert one.engine.endpoint(BOUND_S) is not None


def test_a_cached_preset_that_will_not_load_is_verified_again(stage: Any, tmp_path: Path) -> None:
    path = cached_path(PRESET, tmp_path)
    path.write_bytes(b"GGUF")
    stamp = path.with_suffix(".sha256")
    stamp.write_text(f"{PRESET.sha256} 4 {path.stat().st_mtime_ns} {path.stat().st_ctime_ns}\n")
    refusal = FakeChild({"error": "llama.cpp can't load it", "permanent": False}, code=1)
    one = stage(
        EmbeddedSettings(model=PRESET.name, cache_dir=str(tmp_path)), refusal, FakeChild({"error": "enough", "permanent": True}, code=1)
    )
    one.engine.start()
    one.wait_for("engine.failed")
    assert one.names == ["engine.starting", "engine.died", "engine.fetching", "engine.failed"]
    assert not stamp.exists()


# Stopping, and being switched off.


def test_a_model_that_is_switched_off_is_never_started(stage: Any, tmp_path: Path) -> None:
    one = stage(with_file(tmp_path, enabled=False))
    one.engine.start()
    with pytest.raises(NoUpstream, match="switched off"):
        one.engine.endpoint(BOUND_S)
    assert (one.status.state, one.started) == ("stopped", [])


def ready(stage: Any, tmp_path: Path) -> tuple[Stage, FakeChild]:
    child = FakeChild(READY)
    one = stage(with_file(tmp_path), child)
    one.engine.endpoint(BOUND_S)
    one.wait_for("engine.ready")
    return one, child


def loading(stage: Any, tmp_path: Path) -> tuple[Stage, FakeChild]:
    child = FakeChild()
    one = stage(with_file(tmp_path), child)
    one.engine.start()
    one.wait_started(child)
    return one, child


def in_fetch(stage: Any, tmp_path: Path) -> tuple[Stage, FakeChild]:
    child = FakeChild()
    one = fetching(stage, tmp_path, child)
    one.wait_started(child)
    return one, child


def pausing(stage: Any, tmp_path: Path) -> tuple[Stage, None]:
    one = fetching(stage, tmp_path, FakeChild({"error": "no network", "permanent": False}, code=1))
    one.wait_for("engine.fetch_failed")
    return one, None


@pytest.mark.parametrize("begin", [ready, loading, in_fetch, pausing])
def test_it_is_gone_when_stop_returns(stage: Any, tmp_path: Path, begin: Any) -> None:
    one, child = begin(stage, tmp_path)
    begun_s = time.monotonic()
    one.engine.stop()
    assert time.monotonic() - begun_s < 2
    assert child is None or child.is_stopped
    assert (one.status.state, one.status.detail, one.status.pid) == ("stopped", "stopped", None)
    assert one.names[-1] == "engine.stopped"
    with pytest.raises(NoUpstream):
        one.engine.endpoint(BOUND_S)


def test_stopping_what_was_never_started_tells_nothing(stage: Any, tmp_path: Path) -> None:
    one = stage(with_file(tmp_path))
    one.engine.stop()
    one.engine.start()
    with pytest.raises(NoUpstream, match="stopped"):
        one.engine.endpoint(BOUND_S)
    assert (one.events, one.started) == ([], [])
