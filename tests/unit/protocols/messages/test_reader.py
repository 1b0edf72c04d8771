"""What the upstream's half says besides words: signatures of thoughts, and the stop sequence that ended an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from compat.protocols.events import BlockStart, BlockStop, Event, Signature, Stop, TextDelta, ThinkingDelta
from compat.protocols.messages.reader import MessagesReader
from compat.protocols.messages.shapes import API
from compat.protocols.notes import Notes
from compat.wire.sse import EventSplitter
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.fakes.anthropic_answers import event_bytes, message, stream_events, text, thinking


def streamed(blocks: Sequence[Any], **end: Any) -> list[Event]:
    reader = MessagesReader(context(SONNET, is_stream=True), Notes())
    events = [event for block in EventSplitter().feed(event_bytes(stream_events(blocks, **end))) for event in reader.read(block)]
    return [*events, *reader.end(is_whole=True)]


def whole(blocks: Sequence[Any], **end: Any) -> list[Event]:
    return list(MessagesReader(context(SONNET), Notes()).whole(json.dumps(message(blocks, **end)).encode()))


@pytest.mark.parametrize("read", [streamed, whole])
def test_a_thought_ends_with_its_signature(read: Any) -> None:
    events = read([{**thinking("Hm."), "signature": "sig"}, text("A")])
    first = next(number for number, event in enumerate(events) if isinstance(event, BlockStart))
    words = [event for event in events[first:] if not isinstance(event, ThinkingDelta | TextDelta)]
    assert words[:5] == [BlockStart(0, "thinking"), Signature(0, API, "sig"), BlockStop(0), BlockStart(1, "text"), BlockStop(1)]


@pytest.mark.parametrize("read", [streamed, whole])
def test_a_thought_without_a_signature_ends_without_one(read: Any) -> None:
    assert not any(isinstance(event, Signature) for event in read([{"type": "thinking", "thinking": "Hm.", "signature": ""}]))


@pytest.mark.parametrize("read", [streamed, whole])
def test_the_stop_sequence_is_the_upstreams(read: Any) -> None:
    assert Stop("end", sequence="END") in read([text("A")], stop_reason="stop_sequence", stop_sequence="END")
    assert Stop("end") in read([text("A")])
