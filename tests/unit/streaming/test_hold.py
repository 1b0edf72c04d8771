"""What is shown when: nothing before the first content, a tool call when it is complete or too long to be held."""

from __future__ import annotations

import pytest

from compat.config.catalog import Model
from compat.errors import UpstreamBroken
from compat.protocols.base import StreamTranslator, TranslationContext
from compat.protocols.chat.client import CHAT
from compat.streaming.hold import Outflow
from compat.wire.usage import Usage

CONTEXT = TranslationContext("alias", "target", Model(id="target"), "chatcmpl-1", 1, is_stream=True)
ROLE = b"role\n\n"
TEXT = b"text\n\n"
CALL = b'"tool_calls": [{"index":0}]\n\n'
NO_CALLS = b'"tool_calls":[] text\n\n'


class Echo(StreamTranslator):
    """Frames are the events as they came; `text` and calls are content, `stop` is the end."""

    def translate_event(self, block: bytes) -> bytes:
        self.is_committed = self.is_committed or b"text" in block or b"tool_calls" in block
        if block == b"stop":
            self.stop_reason = "stop"
        return block + b"\n\n"

    def translate_end(self) -> bytes:
        return b"[DONE]"

    def usage_so_far(self) -> Usage:
        return Usage()


class Shown:
    def __init__(self, hold_bytes: int = 100) -> None:
        self.times = 0
        self.outflow = Outflow(CHAT, Echo(CONTEXT), hold_bytes, self.note)

    def note(self) -> None:
        self.times += 1

    def takes(self, *pieces: bytes) -> list[bytes]:
        return [self.outflow.take(piece) for piece in pieces]


def test_nothing_is_shown_before_the_first_content() -> None:
    shown = Shown()
    assert shown.takes(ROLE, ROLE) == [b"", b""]
    assert shown.times == 0
    assert not shown.outflow.is_flowing
    assert shown.takes(TEXT, TEXT) == [ROLE + ROLE + TEXT, TEXT]
    assert shown.times == 1
    assert shown.outflow.is_flowing


def test_a_tool_call_is_shown_when_it_is_complete() -> None:
    shown = Shown()
    assert shown.takes(TEXT, CALL, CALL) == [TEXT, b"", b""]
    assert shown.outflow.is_flowing
    assert shown.takes(b"stop\n\n") == [b""]
    assert not shown.outflow.is_flowing
    assert shown.outflow.rest() == CALL + CALL + b"stop\n\n[DONE]"


def test_a_tool_call_before_any_text_is_held_with_what_stands_before_it() -> None:
    shown = Shown()
    assert shown.takes(ROLE, CALL) == [b"", b""]
    assert shown.times == 0
    assert shown.outflow.rest() == ROLE + CALL + b"[DONE]"


def test_a_tool_call_that_is_too_long_is_shown_as_it_comes() -> None:
    shown = Shown(hold_bytes=40)
    assert shown.takes(ROLE, CALL, CALL, CALL) == [b"", b"", ROLE + CALL + CALL, CALL]
    assert shown.times == 1


def test_nothing_is_held_where_nothing_may_be() -> None:
    assert Shown(hold_bytes=0).takes(TEXT, CALL) == [TEXT, CALL]


def test_an_empty_list_of_calls_is_no_call() -> None:
    assert Shown().takes(NO_CALLS, TEXT) == [NO_CALLS, TEXT]


def test_half_an_event_after_the_end_costs_nothing() -> None:
    shown = Shown()
    shown.takes(TEXT, b"stop\n\n")

    class Breaking(Echo):
        def translate_event(self, block: bytes) -> bytes:
            if block == b"half":
                raise UpstreamBroken("half an event")
            return super().translate_event(block)

    ended, broken = (Outflow(CHAT, Breaking(CONTEXT), 0, shown.note) for _ in range(2))
    assert ended.take(TEXT + b"stop\n\nhalf") == TEXT + b"stop\n\n"
    assert ended.rest() == b"[DONE]"
    broken.take(TEXT + b"half")
    with pytest.raises(UpstreamBroken):
        broken.rest()
