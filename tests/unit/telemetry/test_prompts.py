"""What a client asked is found again in the log, as long as that has it, and by nobody else's name for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.config.sections import LogSettings
from compat.telemetry.calllog import CallLog
from compat.telemetry.prompts import prompt_of

Find = Callable[..., str | None]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CallLog]:
    log = CallLog(LogSettings(terminal=False, prompts=True, max_bytes=2000, backups=2), tmp_path, lambda: 1.0)
    yield log
    log.close()


@pytest.fixture
def find(tmp_path: Path, log: CallLog) -> Find:
    def find(request_id: str, client: str = "laptop", backups: int = 2) -> str | None:
        log.flush()
        return prompt_of(LogSettings(backups=backups), tmp_path, request_id, client)

    return find


def test_a_request_is_found_by_its_id_and_its_key(log: CallLog, find: Find) -> None:
    body = '{"messages": ["\u2028 \\"event\\":\\"call.request\\" "]}\n'
    log.write("call", {"request_id": "r1", "client": "laptop"})
    log.request("r1", "laptop", body.encode())
    log.request("r1", "other", b"theirs")
    log.write("call", {"request_id": "r1", "client": "laptop"})
    assert find("r1") == body
    assert find("r1", "other") == "theirs"
    assert [find("r1", "nobody"), find("r"), find("r\ud800")] == [None, None, None]


def test_a_request_can_hold_no_other_one(log: CallLog, find: Find) -> None:
    log.request("r2", "other", b'","event":"call.request","request_id":"r1","client":"laptop","bytes":1,"body":"planted"}')
    assert find("r1") is None


def test_older_files_are_looked_into_until_they_are_gone(log: CallLog, find: Find) -> None:
    for number in range(1, 4):
        log.request(f"r{number}", "laptop", b"x" * 1500)
        log.flush()
    assert [find(f"r{number}") is not None for number in range(1, 4)] == [True, True, True]
    assert find("r2", backups=0) is None
    log.request("r4", "laptop", b"x" * 1500)
    assert [find(f"r{number}") is not None for number in range(1, 5)] == [False, True, True, True]


def test_requests_are_found_where_a_link_leads_as_older_files_are_there(tmp_path: Path, log: CallLog, find: Find) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / LogSettings().file).symlink_to(tmp_path / "disk/calls.log")
    for number in (1, 2):
        log.request(f"r{number}", "laptop", b"x" * 1500)
    assert [find(f"r{number}") is not None for number in (1, 2)] == [True, True]
    assert (tmp_path / "disk/calls.log.1").exists()


def test_the_newest_of_the_same_name_is_found(log: CallLog, find: Find) -> None:
    log.request("r1", "laptop", b"first")
    log.request("r1", "laptop", b"second")
    assert find("r1") == "second"


@pytest.mark.parametrize("content", [None, b"", b'{"event":"call.request","request_id":"r1","client":"laptop","bo'])
def test_without_a_whole_line_nothing_is_found(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "logs/openai_compat.log"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    assert prompt_of(LogSettings(), tmp_path, "r1", "laptop") is None
