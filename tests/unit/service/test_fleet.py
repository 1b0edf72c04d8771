"""What workers tell of themselves, and what is made of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compat.service.fleet import Fleet, Worker, generations, keepers, sweep, timestamp, workers
from compat.service.state import Facts, Generation, Identity, RunFolder, Service, identity_of, write_json

BORN_S = 1_700_000_000.0
ROW = {"number": 3, "configuration": 1, "facts": {"workers": 2, "shutdown_s": 30.0}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.make()
    return folder


def worker(pid: int, generation: int, state: Any = "serving", in_flight: int = 0) -> Worker:
    return Worker(Identity(pid, "1", "x"), generation, state, BORN_S + pid, in_flight, 10)


def test_a_worker_is_seen_as_it_told_and_not_after_it_is_gone(run: RunFolder) -> None:
    fleet = Fleet(run, 3, BORN_S)
    fleet.note("serving", 2, 7)
    (seen,) = workers(run)
    assert (seen.identity.pid, seen.generation, seen.state, seen.in_flight, seen.calls) == (os.getpid(), 3, "serving", 2, 7)
    assert sweep(run) == 0
    own = identity_of(os.getpid())
    assert own is not None
    for name, identity in (("1.json", replace(own, started="1")), ("2.json", None)):
        row = {
            "identity": identity,
            "generation": 1,
            "state": "serving",
            "since_s": 1,
            "in_flight": 0,
            "calls": 0,
        }
        write_json(run.workers / name, row)
    assert workers(run) == [seen]
    assert sweep(run) == 2
    fleet.forget()
    assert workers(run) == []
    fleet.forget()


def test_nothing_is_written_when_nothing_changed_but_a_file_that_was_removed_is_made_again(run: RunFolder) -> None:
    fleet = Fleet(run, 1, BORN_S)
    fleet.note("serving", 0, 0)
    (path,) = run.workers.iterdir()
    before = path.stat().st_ino
    fleet.note("serving", 0, 0)
    assert path.stat().st_ino == before
    path.unlink()
    run.workers.rmdir()
    fleet.note("serving", 0, 0)
    assert path.exists()


def test_a_folder_that_can_not_be_written_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file is in the way")
    fleet = Fleet(RunFolder(tmp_path / "run"), 1, BORN_S)
    fleet.note("serving", 0, 0)
    assert fleet.report() == []
    assert not fleet.was_replaced()


def test_generations_are_told_with_their_sums_the_oldest_first() -> None:
    alive = [worker(11, 1, "retiring", 4), worker(12, 1, "retiring", 1), worker(21, 2), worker(22, 2, in_flight=3)]
    service = Service(generations=[Generation(2, "serving", Facts(30.0), identity=Identity(20, "1", "x"))])
    old, new = generations(alive, service)
    assert (old["generation"], old["state"], old["in_flight"], old["pid"], old["started"]) == (
        1,
        "retiring",
        5,
        None,
        timestamp(BORN_S + 11),
    )
    assert (new["generation"], new["state"], new["in_flight"], new["pid"], new["calls"]) == (2, "serving", 3, 20, 20)
    assert [row["pid"] for row in new["workers"]] == [21, 22]
    assert generations([], service) == []


@pytest.mark.parametrize(
    ("service", "is_replaced"),
    [
        ({}, False),
        ({"state": "running", "generations": [{**ROW, "state": "serving"}]}, False),
        ({"state": "running", "generations": [{**ROW, "state": "retiring"}]}, True),
        ({"state": "stopping", "generations": [{**ROW, "state": "retiring"}]}, False),
    ],
)
def test_a_worker_under_the_watcher_knows_whether_it_was_replaced(run: RunFolder, service: dict[str, Any], is_replaced: bool) -> None:
    write_json(run.service, service)
    fleet = Fleet(run, 3, BORN_S)
    assert fleet.was_replaced() is is_replaced
    assert fleet.is_service_stopping() is (service.get("state") == "stopping")
    assert fleet.is_over() is (is_replaced or fleet.is_service_stopping())
    assert not Fleet(run, 3, BORN_S, is_watched=False).is_over(), "the file of a watcher of old says nothing about gunicorn alone"


@pytest.mark.parametrize(("reloads", "is_replaced"), [(None, False), (1, False), (2, True), ("x", False)])
def test_a_worker_of_gunicorn_alone_knows_it_from_the_masters_file(run: RunFolder, reloads: object, is_replaced: bool) -> None:
    if reloads is not None:
        write_json(run.root / f"gunicorn-{os.getppid()}.json", {"generation": reloads})
    assert Fleet(run, 1, BORN_S, is_watched=False).was_replaced() is is_replaced
    assert not Fleet(run, 1, BORN_S).was_replaced()


def test_only_keepers_that_live_are_told(run: RunFolder) -> None:
    own = identity_of(os.getpid())
    assert own is not None
    told = {"state": "ready", "detail": "", "model": "m", "pid": None, "context_tokens": 1, "restarts": 0}
    write_json(run.root / "engine-a.json", {**told, "keeper": own})
    write_json(run.root / "engine-b.json", {**told, "keeper": replace(own, started="1")})
    write_json(run.root / "engine-c.json", {"keeper": own, "state": "ready"})
    assert [row.state for row in keepers(run)] == ["ready"]
