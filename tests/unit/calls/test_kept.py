"""What goes before a call that goes on from a stored answer, and what becomes of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.calls.kept import Kept, history
from compat.errors import BadRequest, ContextTooLong
from compat.protocols.responses.state import Wish
from compat.storage.background import StoreFailed
from compat.storage.redis_link import Link
from compat.stored.base import Record, ResponseStore
from compat.stored.sqlite import SqliteResponses
from tests.unit.builders import StillClock

MOST = 10_000


def said(words: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": words}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResponseStore]:
    clock = StillClock()
    link = Link("responses", clock.monotonic, lambda *_: None, (StoreFailed,))
    store = ResponseStore(link, SqliteResponses(tmp_path / "r.sqlite", clock.now, max_bytes=2**24, ttl_s=1000.0))
    yield store
    store.close()


def keep(store: ResponseStore, name: str, previous: str = "", *, status: str = "completed", output: Any = None) -> None:
    body = {"id": name, "status": status, "output": [said(f"out {name}")] if output is None else output}
    store.save("ada", Record(name, status, json.dumps(body).encode(), json.dumps([said(f"in {name}")]).encode(), previous))


def words(store: ResponseStore, name: str, most_bytes: int = MOST) -> list[str]:
    return [json.loads(item).get("content", "short") for item in history(store, "ada", name, most_bytes)]


def test_a_chain_is_told_from_its_beginning(store: ResponseStore) -> None:
    keep(store, "a")
    keep(store, "b", "a", status="incomplete")
    keep(store, "c", "b")
    assert words(store, "c") == ["in a", "out a", "in b", "out b", "in c", "out c"]
    assert words(store, "a") == ["in a", "out a"]


def test_a_chain_begins_where_it_was_made_short(store: ResponseStore) -> None:
    keep(store, "a")
    keep(store, "b", "a", output=[{"type": "compaction", "encrypted_content": "x"}])
    keep(store, "c", "b")
    store.delete("ada", "a")
    assert words(store, "c") == ["short", "in c", "out c"]


def test_a_chain_that_lacks_an_answer_is_not_gone_on_from(store: ResponseStore) -> None:
    for name, previous in (("a", ""), ("b", "a"), ("c", "b")):
        keep(store, name, previous)
    store.delete("ada", "b")
    with pytest.raises(BadRequest, match="Previous response with id 'b' not found"):
        words(store, "c")
    with pytest.raises(BadRequest, match="Previous response with id 'a' not found"):
        history(store, "bob", "a", MOST)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_answer_that_is_not_finished_is_not_gone_on_from(store: ResponseStore, status: str) -> None:
    keep(store, "a", status=status)
    with pytest.raises(BadRequest, match="is not finished") as refused:
        words(store, "a")
    assert refused.value.param == "previous_response_id"


def test_a_chain_that_no_request_could_hold_is_refused(store: ResponseStore) -> None:
    keep(store, "a")
    keep(store, "b", "a")
    with pytest.raises(ContextTooLong):
        words(store, "b", 200)


def test_a_chain_that_leads_back_to_itself_ends(store: ResponseStore) -> None:
    keep(store, "a", "b")
    keep(store, "b", "a")
    assert words(store, "b") == ["in a", "out a", "in b", "out b"]


@pytest.mark.parametrize(("is_kept", "told"), [(True, True), (False, False)])
def test_an_answer_says_whether_it_is_stored(is_kept: bool, told: bool) -> None:
    seen: list[Record] = []
    kept = Kept(Wish(True, previous="resp_0", items=(b"1",)), lambda record: seen.append(record) or is_kept, lambda: 7.0, "resp_1")
    shown = json.loads(kept.whole(b'{"id":"theirs","status":"completed","store":false}'))
    assert shown == {"id": "resp_1", "status": "completed", "store": told, "background": False, "previous_response_id": "resp_0"}
    [record] = seen
    assert (record.answer_id, record.items, record.previous, record.saved_s) == ("resp_1", b"[1]", "resp_0", 7.0)


def test_an_answer_that_is_not_to_be_stored_keeps_its_name() -> None:
    kept = Kept(Wish(previous="resp_0"), lambda _: pytest.fail("it is kept"), lambda: 7.0, "resp_1")
    assert json.loads(kept.whole(b'{"id":"theirs","status":"completed"}'))["id"] == "theirs"
