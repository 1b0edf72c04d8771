"""What is known of a call before anything is done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.calls.call import Call, call_from
from compat.protocols.chat.client import CHAT
from compat.wire.envelope import Envelope

GOOD = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def call_of(document: dict[str, Any]) -> Call:
    return call_from(CHAT, Envelope(json.dumps(document).encode()), request_id="r1", client="ada", received_s=5.0)


def test_a_call_knows_its_model_and_who_asked_when() -> None:
    call = call_of(GOOD)
    assert (call.model, call.request_id, call.client, call.received_s, call.protocol.api) == ("m", "r1", "ada", 5.0, "openai.chat")
    assert json.loads(call.envelope.body) == GOOD


@pytest.mark.parametrize(
    ("more", "most"), [({}, 100), ({"max_tokens": 30}, 30), ({"max_tokens": 300}, 100), ({"n": 3}, 300), ({"n": 3, "max_tokens": 30}, 90)]
)
def test_all_answers_have_at_most_so_many_tokens(more: dict[str, Any], most: int) -> None:
    assert call_of({**GOOD, **more}).most_output(100) == most
