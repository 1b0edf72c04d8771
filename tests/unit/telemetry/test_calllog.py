"""The log: one JSON line per record, rotated, never in a call's way, and honest about what it lost."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import monkey

from compat.config.sections import LogSettings
from compat.telemetry.calllog import CLOSE_S, MAX_PROMPT_BYTES, MAX_QUEUED, STUCK_S, CallLog, readable


class Bench:
    """A log in `folder` whose clock stands; `terminal` is what it printed."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.terminal = io.StringIO()
        self.path = folder / settings.get("file", "logs/openai_compat.log")
        self.now_s = 1_700_000_000.5
        self.log = CallLog(LogSettings(**{"terminal": False, **settings}), folder, lambda: self.now_s, self.terminal)

    def lines(self) -> list[dict[str, Any]]:
        self.log.flush()
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.log.close()


def test_a_record_is_one_line_of_json(bench: Any) -> None:
    log = bench()
    log.log.write("call", {"model": 'é "x"\n\x1b[31m', "status": 200, "ttft_ms": 1.5, "error": None, "where": Path("a/b")}, "info")
    assert log.path.exists() is False
    assert log.lines() == [
        {
            "time": "2023-11-14T22:13:20.500+00:00",
            "level": "info",
            "event": "call",
            "model": 'é "x"\n\x1b[31m',
            "status": 200,
            "ttft_ms": 1.5,
            "error": None,
            "where": "a/b",
        }
    ]
    assert "\x1b" not in log.path.read_text()


@pytest.mark.parametrize(
    "character", ["\x7f", "\x85", "\x9b", "\u2028", "\u202e", "\U000e0041"], ids=lambda character: f"U+{ord(character):04X}"
)
def test_no_control_character_reaches_a_line(bench: Any, character: str) -> None:
    log = bench()
    log.log.write("call", {"model": f"a{character}b"})
    assert log.lines()[0]["model"] == f"a{character}b"
    assert character not in log.path.read_text(encoding="utf-8")


def test_records_keep_their_order(bench: Any) -> None:
    log = bench()
    for number in range(50):
        log.log.write("call", {"n": number})
    assert [line["n"] for line in log.lines()] == list(range(50))


def test_what_is_written_while_the_file_is_written_waits_for_the_next_time(bench: Any) -> None:
    log = bench(terminal=True)

    class Busy(io.StringIO):
        """Calls go on while a line is printed."""

        def write(self, text: str) -> int:
            log.log.write("late", {})
            return super().write(text)

    busy = CallLog(LogSettings(terminal=True), log.path.parent.parent, lambda: log.now_s, Busy())
    busy.event("first", {})
    log.log, own = busy, log.log
    busy.flush()
    assert [json.loads(line)["event"] for line in log.path.read_text().splitlines()] == ["first"]
    assert [line["event"] for line in log.lines()] == ["first", "late"]
    own.close()


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_bounds_what_is_written(bench: Any, level: str, kept: list[str]) -> None:
    log = bench(level=level)
    for each in ("debug", "info", "warning", "error"):
        log.log.write("event", {}, each)
    assert [line["level"] for line in log.lines()] == kept


@pytest.mark.parametrize(("name", "level"), [("discovery.failed", "warning"), ("engine.died", "warning"), ("gateway.started", "info")])
def test_an_event_that_tells_of_a_fault_is_a_warning(bench: Any, name: str, level: str) -> None:
    log = bench()
    log.log.event(name, {"detail": "x"})
    assert [(line["event"], line["level"], line["detail"]) for line in log.lines()] == [(name, level, "x")]


def test_the_file_is_rotated_and_old_files_are_bounded(bench: Any, tmp_path: Path) -> None:
    log = bench(max_bytes=1000, backups=2)
    for number in range(100):
        log.log.write("call", {"n": number, "pad": "x" * 50})
    assert log.lines()[-1]["n"] == 99
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["openai_compat.log", "openai_compat.log.1", "openai_compat.log.2"]
    assert all(path.stat().st_size <= 1000 for path in (tmp_path / "logs").iterdir())
    newer = [json.loads(line)["n"] for line in (tmp_path / "logs/openai_compat.log.1").read_text().splitlines()]
    assert newer[-1] + 1 == log.lines()[0]["n"]


def test_what_does_not_fit_into_the_queue_is_counted(bench: Any) -> None:
    log = bench()
    for number in range(MAX_QUEUED + 7):
        log.log.write("call", {"n": number})
    assert log.log.dropped == 7
    assert [line["n"] for line in log.lines()] == list(range(MAX_QUEUED))
    log.log.write("call", {"n": "next"})
    assert log.lines()[-1]["n"] == "next"
    assert log.log.dropped == 7


def test_a_file_that_cant_be_written_is_told_once_and_calls_go_on(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    log = bench()
    for _ in range(3):
        log.log.write("call", {})
        log.log.flush()
    assert (log.log.dropped, log.log.fault) == (3, "File exists")
    assert log.terminal.getvalue().count("can't be written: File exists. Calls continue.\n") == 1
    (tmp_path / "logs").unlink()
    log.log.write("call", {"n": 4})
    assert [line["n"] for line in log.lines()] == [4]
    assert (log.log.dropped, log.log.fault) == (3, "")


def test_a_file_that_is_lost_is_opened_again(bench: Any, tmp_path: Path) -> None:
    log = bench(max_bytes=300, backups=1)
    log.log.write("call", {"n": 1, "pad": "x" * 80})
    log.log.flush()
    log.path.with_name("openai_compat.log.1").mkdir()
    log.log.write("call", {"n": 2, "pad": "x" * 80})
    log.log.flush()
    assert (log.log.dropped, log.log.fault != "") == (1, True)
    log.path.with_name("openai_compat.log.1").rmdir()
    log.log.write("call", {"n": 3})
    assert log.lines()[-1]["n"] == 3
    assert log.log.fault == ""


def test_after_the_end_everything_is_in_the_file(bench: Any) -> None:
    log = bench()
    log.log.write("call", {"n": 1})
    log.log.close()
    assert [line["n"] for line in log.lines()] == [1]


def test_what_a_file_cant_hold_costs_its_own_line_only(bench: Any) -> None:
    log = bench()
    log.log.write("call", {"n": "\ud800"})
    log.log.write("call", {"n": 2})
    assert [line["n"] for line in log.lines()] == [2]
    assert log.log.dropped == 1


def test_the_end_and_the_writers_thread_never_write_at_once(bench: Any) -> None:
    """Whoever finds the other at work waits; no record is lost or written twice, and none is sought in an empty queue."""
    log = bench()
    writing = monkey.get_original("_thread", "allocate_lock")()
    give_way = monkey.get_original("time", "sleep")
    taken: list[bool] = []

    class Watched:
        """A queue that lets the other thread run while one takes from it, and notes whether it was taken from by one at a time."""

        def __init__(self, records: Any) -> None:
            self.records = records

        def __len__(self) -> int:
            return len(self.records)

        def append(self, record: Any) -> None:
            self.records.append(record)

        def popleft(self) -> Any:
            is_alone = writing.acquire(blocking=False)
            taken.append(is_alone)
            give_way(0)
            if is_alone:
                writing.release()
            return self.records.popleft()

    for number in range(2000):
        log.log.write("call", {"n": number})
    log.log._queue = Watched(log.log._queue)
    log.log.start()
    with gevent.Timeout(10):
        while not taken:
            gevent.idle()
    log.log.close()
    assert [line["n"] for line in log.lines()] == list(range(2000))
    assert taken == [True] * 2000


def test_prompts_are_in_the_log_only_when_they_are_asked_for(bench: Any) -> None:
    log = bench()
    log.log.request("r1", "laptop", b'{"messages": []}')
    assert log.log.queued == 0
    log = bench(prompts=True)
    log.log.request("r1", "laptop", '{"messages":\n["ü \u2028"]}'.encode() + b"\xff")
    assert [(line["event"], line["request_id"], line["body"]) for line in log.lines()] == [
        ("call.request", "r1", '{"messages":\n["ü \u2028"]}\ufffd')
    ]


def test_prompts_that_wait_are_bounded_and_what_is_lost_is_counted(bench: Any) -> None:
    log = bench(prompts=True)
    body = b"x" * (MAX_PROMPT_BYTES // 4)
    for number in range(6):
        log.log.request(str(number), "laptop", body)
    log.log.write("call", {"request_id": "0"})
    assert (log.log.queued, log.log.dropped) == (5, 2)
    assert log.lines()[-1]["event"] == "call"
    log.log.request("again", "laptop", body)
    assert (log.log.queued, log.log.dropped) == (1, 2)


@pytest.mark.slow
def test_a_disk_that_takes_nothing_is_told_and_does_not_hold_up_the_end(bench: Any, tmp_path: Path) -> None:
    """A mount that hangs: nobody reads the pipe, so opening it waits for ever."""
    (tmp_path / "logs").mkdir()
    os.mkfifo(tmp_path / "logs/openai_compat.log")
    log = bench()
    log.log.start()
    log.log.write("call", {"n": 1})
    with gevent.Timeout(10):
        while log.log.queued:
            gevent.sleep(0.01)
    log.log.write("call", {"n": 2})
    assert log.log.fault == ""
    log.now_s += STUCK_S
    assert log.log.fault == f"no line could be written for {STUCK_S:.0f} s"
    begun_s = time.monotonic()
    log.log.close()
    assert time.monotonic() - begun_s < CLOSE_S + 2
    assert log.log.dropped == 1
    os.close(os.open(tmp_path / "logs/openai_compat.log", os.O_RDONLY | os.O_NONBLOCK))  # lets the thread go


def test_the_end_waits_for_the_thread_and_can_come_twice(bench: Any) -> None:
    log = bench()
    log.log.start()
    for number in range(3000):
        log.log.write("call", {"n": number})
    log.log.close()
    log.log.close()
    assert [line["n"] for line in log.lines()] == list(range(3000))


def test_a_thread_of_the_system_writes_while_nobody_asks(bench: Any) -> None:
    log = bench(terminal=True)
    log.log.start()
    log.log.write("call", {"n": 1})
    with gevent.Timeout(10):
        while not log.terminal.getvalue():  # written by a real thread, which can't wake a greenlet
            gevent.idle()
    assert [json.loads(line)["n"] for line in log.path.read_text().splitlines()] == [1]


def test_the_terminal_gets_a_readable_line_as_well(bench: Any) -> None:
    log = bench(terminal=True)
    log.log.write("gateway.started", {"port": 1})
    log.log.flush()
    assert log.terminal.getvalue()[8:] == " gateway.started port=1\n"


def test_a_terminal_that_is_gone_costs_its_own_lines_only(bench: Any) -> None:
    log = bench(terminal=True)
    log.terminal.close()
    log.log.write("call", {"n": 1})
    assert [line["n"] for line in log.lines()] == [1]
    assert log.log.dropped == 1


def test_without_file_and_terminal_nothing_is_raised(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    log = bench()
    log.terminal.close()
    log.log.write("call", {})
    log.log.flush()


CALL = {"outcome": "ok", "model": "m", "deployment": "up/x", "status": 200, "duration_ms": 12.5}


@pytest.mark.parametrize(
    ("event", "fields", "line"),
    [
        ("call", CALL, "ok m -> up/x 200 12.5 ms"),
        ("call", {**CALL, "prompt_tokens": 0, "completion_tokens": 7}, "ok m -> up/x 200 12.5 ms 0+7 tokens"),
        ("call", {**CALL, "outcome": "error", "error": "no\nway"}, r"error m -> up/x 200 12.5 ms (no\nway)"),
        ("call", {"outcome": "ok"}, "ok"),
        ("call", {**CALL, "outcome": "error", "deployment": None, "status": 404, "error": "no"}, "error m 404 12.5 ms (no)"),
        ("call", {**CALL, "model": "my model", "deployment": "up/a b"}, 'ok "my model" -> "up/a b" 200 12.5 ms'),
        ("engine.died", {"code": 1, "detail": "a b"}, 'engine.died code=1 detail="a b"'),
        ("x", {"a": "b=c", "d": 'say "hi"', "e": "", "f": None, "g": True}, r'x a="b=c" d="say \"hi\"" e="" f=- g=true'),
        ("x", {"where": r"C:\logs", "list": ["a"], "n": 0}, r"x where=C:\logs list=['a'] n=0"),
        ("x", {"y": "\x1b[31m\x00\x9b\u2028é漢"}, r"x y=\x1b[31m\x00\x9b\u2028é漢"),
    ],
)
def test_a_line_for_people_holds_no_control_characters(event: str, fields: dict[str, Any], line: str) -> None:
    assert readable(event, fields) == line
