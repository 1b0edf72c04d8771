"""Work on large bodies, off the event loop."""

from __future__ import annotations

import dataclasses
import gc
import json
import weakref
from collections.abc import Callable, Mapping, Sequence

import gevent
import pytest
from gevent import monkey

from compat.errors import BadRequest
from compat.protocols import TRANSLATORS
from compat.protocols.base import ThinkingRecord
from compat.storage.background import new_lock
from compat.streaming.offload import LONG_BYTES, Offload, is_long
from compat.wire.envelope import Envelope
from compat.wire.estimate import prompt_tokens
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context

ANTHROPIC = TRANSLATORS["openai.chat", "anthropic.messages"]
LONG = b" " * (LONG_BYTES + 1)
thread_id = monkey.get_original("_thread", "get_ident")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", False),
        (b"x" * LONG_BYTES, False),
        (b"x" * (LONG_BYTES + 1), True),
        (b"[" + b"1," * 8000 + b"1]", False),
        (b"[" + b"{ }," * 4500 + b"1]", True),
    ],
    ids=["empty", "as large as may be", "large", "few small things", "many small things"],
)
def test_a_body_is_long_by_its_size_and_by_what_it_holds(body: bytes, expected: bool) -> None:
    assert is_long(body) is expected


def test_work_on_a_short_body_stays_where_it_is() -> None:
    assert Offload().run(b"{}", thread_id) == thread_id()


def test_the_event_loop_goes_on_while_a_thread_works_on_a_long_body() -> None:
    lock = new_lock()
    lock.acquire()
    gevent.spawn(lock.release)

    def work() -> int:
        assert lock.acquire(timeout=5), "the event loop stood still"
        return thread_id()

    assert Offload().run(LONG, work) != thread_id()


def test_an_error_is_the_callers(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise BadRequest("no")

    with pytest.raises(BadRequest, match="no"):
        Offload().run(LONG, work)
    assert capfd.readouterr().err == ""


def test_thinking_is_looked_for_on_the_event_loop() -> None:
    asked: list[tuple[tuple[str, ...], int]] = []

    def find(ids: Sequence[str]) -> Mapping[str, ThinkingRecord]:
        asked.append((tuple(ids), thread_id()))
        return {"c": ThinkingRecord(("c",), ({"type": "thinking", "thinking": "Hm", "signature": "s"}, {"type": "tool_use", "id": "c"}))}

    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "a", "arguments": "{}"}}]}
    messages = [{"role": "user", "content": "x" * LONG_BYTES}, call, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    envelope = Envelope(json.dumps({"messages": messages, "reasoning_effort": "high"}).encode())
    ctx = dataclasses.replace(context(SONNET), find_thinking=find)
    request, _ = Offload().request(ANTHROPIC, envelope, ctx)
    assert asked == [(("c",), thread_id())]
    assert request == ANTHROPIC.request(envelope, ctx)
    assert "thinking=restored" in request.notes


def counting(counted: list[int]) -> Callable[[], int]:
    """A prompt's count, as the context of a long request has it; `counted` are the threads in which that was done."""
    envelope = Envelope(json.dumps({"messages": [{"role": "user", "content": "word " * LONG_BYTES}]}).encode())

    def count() -> int:
        counted.append(thread_id())
        return prompt_tokens(envelope, ("messages",))

    _, ctx = Offload().request(ANTHROPIC, envelope, dataclasses.replace(context(SONNET), count_prompt=count))
    assert ctx.count_prompt is not None
    return ctx.count_prompt


def test_a_prompt_is_counted_once_in_a_thread_when_somebody_wants_to_know() -> None:
    counted: list[int] = []
    count = counting(counted)
    assert counted == []
    assert count() == count() > LONG_BYTES
    assert len(counted) == 1
    assert counted[0] != thread_id()


def test_who_can_not_wait_for_a_thread_counts_by_itself() -> None:
    counted: list[int] = []
    asked: list[int] = []
    in_a_thread = counting(counted)
    assert Offload().in_thread(lambda: (in_a_thread(), thread_id())[1]) == counted[0] != thread_id()
    in_a_callback = counting(counted)
    gevent.get_hub().loop.run_callback(lambda: asked.append(in_a_callback()))
    gevent.sleep(0)
    assert len(asked) == 1
    assert counted[1] == thread_id()


def test_the_collector_is_away_while_anybody_works_on_a_long_body_and_comes_back() -> None:
    offload = Offload()
    begun, may_end = new_lock(), new_lock()
    begun.acquire()
    may_end.acquire()

    def wait() -> None:
        begun.release()
        may_end.acquire(timeout=5)

    slow = gevent.spawn(offload.run, LONG, wait)
    gevent.sleep(0)
    assert offload.run(LONG, gc.isenabled) is False
    assert begun.acquire(timeout=5)
    assert not gc.isenabled(), "the slow one is not done"
    may_end.release()
    slow.join()
    assert gc.isenabled()


def test_a_collector_that_was_switched_off_stays_off() -> None:
    gc.disable()
    try:
        Offload().run(LONG, thread_id)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_garbage_goes_also_where_there_is_always_a_long_body() -> None:
    offload = Offload()
    begun, may_end = new_lock(), new_lock()
    begun.acquire()
    may_end.acquire()

    def wait() -> None:
        begun.release()
        may_end.acquire(timeout=5)

    class Knot:
        def __init__(self) -> None:
            self.itself = self

    knot = weakref.ref(Knot())
    slow = gevent.spawn(offload.run, LONG, wait)
    for _ in range(101):
        offload.run(LONG, thread_id)
    assert knot() is None
    may_end.release()
    slow.join()
