"""The live feed: nothing while nobody watches, all workers' events while somebody does, and where it was after a break."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from compat.clock import SystemClock
from compat.errors import TooManyRequests
from compat.telemetry import feed as module
from compat.telemetry.calllog import Level
from compat.telemetry.feed import HEARTBEAT, MARK_S, MISSED, WATCH_S, Feed, FeedFilter

ALL = FeedFilter()
ROOT = Path(__file__).parents[3]


class Bench:
    """A feed as one worker has it; its clock moves when it is told to."""

    def __init__(self, folder: Path, name: str = "a") -> None:
        self.now_s = 1_700_000_000.0
        self.path = folder / "data/live.log"
        self.feed = Feed(self.path, lambda: self.now_s, lambda: name * 32)

    def add(self, event: str = "call", level: Level = "info", **fields: Any) -> None:
        self.feed.add(event, fields, level)
        self.feed.flush()


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are written by `flush`, and looked for at once."""
    monkeypatch.setattr(Feed, "_begin", lambda _: None)
    monkeypatch.setattr(module, "READ_S", 0.0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.feed.close()


class Page:
    """A page that is open: the first piece is taken at once, so that it counts as watching."""

    def __init__(self, bench: Bench, wanted: FeedFilter = ALL, last_id: str = "") -> None:
        self._bench = bench
        self.pieces = bench.feed.follow(wanted, last_id)
        self.first = next(self.pieces)

    def next(self) -> list[dict[str, Any]]:
        """The events of the next piece."""
        self._bench.now_s += module.HEARTBEAT_S
        return events_in(next(self.pieces))


def events_in(piece: bytes) -> list[dict[str, Any]]:
    found = []
    for frame in piece.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line and not line.startswith(":"))
        if "id" in lines:
            found.append({**json.loads(lines["data"]), "sent_id": lines["id"]})
    return found


def test_nothing_is_kept_while_nobody_watches(bench: Bench) -> None:
    bench.feed.look()
    bench.add()
    assert not bench.feed.is_watched
    assert not bench.path.parent.exists()


def test_a_page_gets_what_happens_from_then_on(bench: Bench) -> None:
    page = Page(bench)
    assert page.first == HEARTBEAT
    bench.add("call.started", "debug", request_id="r1", client="laptop", model="sonnet")
    bench.add("call", request_id="r1", client="laptop", model="sonnet", error='no\n"x"\x1b')
    first, last = page.next()
    assert (first["event"], first["level"], first["request_id"]) == ("call.started", "debug", "r1")
    assert (last["error"], last["sent_id"]) == ('no\n"x"\x1b', last["id"])
    assert page.next() == []
    later = Page(bench)
    assert later.first == HEARTBEAT


def test_no_field_takes_the_place_of_an_events_own(bench: Bench) -> None:
    page = Page(bench)
    bench.feed.add("call", dict.fromkeys(("id", "event", "level", "time"), "mine"))
    bench.feed.flush()
    (event,) = page.next()
    assert (event["id"], event["event"], event["level"]) == ("aaaaaaaa-1", "call", "info")


FILTERS = [
    (FeedFilter(), [0, 1, 2, 3, 4]),
    (FeedFilter("info"), [1, 2, 3, 4]),
    (FeedFilter("warning"), [2, 4]),
    (FeedFilter("error"), [4]),
    (FeedFilter(key="ci"), [3]),
    (FeedFilter(model="gpt"), [2]),
    (FeedFilter("warning", "laptop", "gpt"), [2]),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS)
def test_events_by_level_key_and_model(bench: Bench, wanted: FeedFilter, expected: list[int]) -> None:
    page = Page(bench, wanted)
    bench.add("call.started", "debug", client="laptop", model="sonnet", number=0)
    bench.add("call", "info", client="laptop", model="sonnet", number=1)
    bench.add("attempt.failed", "warning", client="laptop", model="gpt", number=2)
    bench.add("call", "info", client="ci", model=None, number=3)
    bench.add("circuit.open", "error", number=4)
    assert [event["number"] for event in page.next()] == expected


def test_a_page_that_comes_back_goes_on_where_it_was(bench: Bench) -> None:
    page = Page(bench)
    for number in range(3):
        bench.add(number=number)
    seen = page.next()
    page.pieces.close()
    bench.add(number=3)
    again = Page(bench, last_id=seen[1]["id"])
    assert [event["number"] for event in events_in(again.first)] == [2, 3]
    bench.add(number=4)
    assert [event["number"] for event in again.next()] == [4]


def test_it_goes_on_in_another_worker_over_a_rotation(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench.feed._file._max_bytes = 500
    page = Page(bench)
    bench.add(number=0)
    (first,) = page.next()
    for number in range(1, 8):
        bench.add(number=number)
    assert bench.path.with_name("live.log.1").exists()
    other = Bench(tmp_path, "b")
    again = Page(other, last_id=first["id"])
    assert [event["number"] for event in events_in(again.first)] == [1, 2, 3, 4, 5, 6, 7]
    assert [event["number"] for event in page.next()] == [1, 2, 3, 4, 5, 6, 7], "a page that stayed sees both files as well"
    other.feed.close()


@pytest.mark.parametrize("last_id", ["bbbbbbbb-1", "aaaaaaaa-99"])
def test_what_is_gone_from_the_ring_is_said(bench: Bench, last_id: str) -> None:
    page = Page(bench)
    bench.add(number=0)
    again = Page(bench, last_id=last_id)
    assert again.first.startswith(MISSED)
    assert [event["number"] for event in events_in(again.first)] == [0]
    assert [event["number"] for event in page.next()] == [0]


def test_where_there_is_no_ring_at_all_that_is_said(bench: Bench) -> None:
    assert Page(bench, last_id="aaaaaaaa-1").first == MISSED


@pytest.mark.parametrize("last_id", ["x", "-1", '","event":"x', "aaaaaaaa-1\n", "a" * 100_000])
def test_an_id_that_is_not_of_the_feed_is_as_good_as_none(bench: Bench, last_id: str) -> None:
    assert Page(bench, last_id=last_id).first == HEARTBEAT


def test_a_file_that_was_removed_is_followed_anew(bench: Bench) -> None:
    page = Page(bench)
    bench.add(number=0)
    assert [event["number"] for event in page.next()] == [0]
    bench.add(number=1)
    bench.path.unlink()
    bench.add(number=2)
    assert [event["number"] for event in page.next()] == [1, 2]
    bench.path.unlink()
    assert page.next() == []


def test_half_a_line_waits_for_its_rest_and_garbage_is_left_out(bench: Bench) -> None:
    page = Page(bench)
    bench.add(number=0)
    with bench.path.open("ab") as file:
        file.write(b'garbage\n\xff\n{"id":"x","level":"info"}\n{"id":"aaaaaaaa-77","level":"inf')
        file.flush()
        assert [event["number"] for event in page.next()] == [0]
        file.write(b'o","number":7}\n')
    assert [event["number"] for event in page.next()] == [7]


def test_workers_see_each_other_and_stop_when_the_page_is_gone(tmp_path: Path) -> None:
    first, second = Bench(tmp_path, "a"), Bench(tmp_path, "b")
    page = Page(first)
    second.feed.look()
    second.add(number=1)
    assert [event["number"] for event in page.next()] == [1]
    page.pieces.close()
    for bench in (first, second):
        bench.now_s += WATCH_S + 2 * module.HEARTBEAT_S
        bench.feed.look()
        assert not bench.feed.is_watched
        bench.feed.close()


def test_an_open_page_keeps_the_mark_fresh_and_nobody_looks_too_often(bench: Bench) -> None:
    page = Page(bench)
    mark = bench.path.with_name("live.log.watched")
    for _ in range(10):
        page.next()
        assert bench.now_s - mark.stat().st_mtime <= MARK_S
    mark.unlink()
    bench.feed.look()
    bench.feed.look()
    assert not bench.feed.is_watched
    os.close(os.open(mark, os.O_CREAT))
    os.utime(mark, (bench.now_s, bench.now_s))
    bench.feed.look()
    assert not bench.feed.is_watched, "it has just looked"


def test_the_feed_is_its_owners_alone(bench: Bench) -> None:
    Page(bench)
    bench.add()
    assert {path.stat().st_mode & 0o777 for path in bench.path.parent.iterdir()} == {0o600}
    assert bench.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cant_be_made_costs_events_only(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    bench = Bench(tmp_path)
    page = Page(bench)
    bench.add()
    assert page.next() == []
    assert bench.feed.dropped == 1
    bench.feed.close()


def test_events_that_no_line_can_hold_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 3)
    page = Page(bench)
    for text in ("\ud800", "x" * 20_000, "good", "too many"):
        bench.feed.add("call", {"text": text})
    bench.feed.flush()
    assert [event["text"] for event in page.next()] == ["good"]
    assert bench.feed.dropped == 3


def test_pages_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FOLLOWERS", 1)
    page = Page(bench)
    with pytest.raises(TooManyRequests):
        bench.feed.follow(FeedFilter())
    page.pieces.close()
    assert Page(bench).first == HEARTBEAT


def test_the_end_of_the_feed_or_of_the_gateway_ends_a_page(bench: Bench) -> None:
    ended = [False]
    pieces = bench.feed.follow(FeedFilter(), is_over=lambda: ended[0])
    assert next(pieces) == HEARTBEAT
    ended[0] = True
    assert list(pieces) == []
    page, other = Page(bench), Page(bench)
    bench.feed.dismiss()
    bench.add(number=1)
    assert list(page.pieces) == []
    assert b'"number":1' in bench.path.read_bytes()
    bench.feed.close()
    assert list(other.pieces) == []
    bench.add()
    bench.feed.look()
    assert not bench.feed.is_watched


def test_the_thread_writes_while_somebody_watches_and_ends_then(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    runs: list[Any] = []
    bench.feed._background.start = runs.append
    page = Page(bench)
    bench.feed.add("call", {"number": 0})
    waits = iter([lambda: None, lambda: setattr(bench, "now_s", bench.now_s + 2 * WATCH_S)])
    bench.feed._background.wait = lambda _: next(waits)()
    (run,) = runs
    run()
    assert bench.path.exists()
    assert not bench.feed.is_watched
    page.pieces.close()


OTHER_PROCESS = """
    import sys
    from pathlib import Path
    from compat.clock import SystemClock
    from compat.telemetry.feed import Feed
    clock = SystemClock()
    feed = Feed(Path(sys.argv[1]), clock.now, clock.new_id)
    for line in sys.stdin:
        feed.look()
        feed.add("call", {"client": "other", "number": int(line)})
        feed.flush()
        print(feed.is_watched, flush=True)
    feed.close()
"""


@pytest.mark.slow
def test_events_of_another_process_are_seen_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    clock = SystemClock()
    path = tmp_path / "data/live.log"
    feed = Feed(path, clock.now, clock.new_id)
    command = [sys.executable, "-c", textwrap.dedent(OTHER_PROCESS), str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def tell(number: int) -> bool:
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        return process.stdout.readline() == "True\n"

    def first_of(pieces: Iterator[bytes]) -> dict[str, Any]:
        return next(event for piece in pieces for event in events_in(piece))

    with gevent.Timeout(30):
        pieces = feed.follow(FeedFilter())
        assert next(pieces) == HEARTBEAT
        assert tell(1)
        seen = first_of(pieces)
        pieces.close()
        assert tell(2)
        again = first_of(feed.follow(FeedFilter(), seen["id"]))
    assert ([seen["number"], again["number"]], seen["client"]) == ([1, 2], "other")
    process.stdin.close()
    assert process.wait(10) == 0
    feed.close()


def test_a_real_thread_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bench = Bench(tmp_path)
    page = Page(bench)
    bench.feed.add("call", {"number": 1})
    with gevent.Timeout(10):
        while not (found := page.next()):
            """Written by a thread of the system, which can't wake a greenlet."""
    assert found[0]["number"] == 1
    bench.feed.close()
