"""A call: what every request must have, and what is read off it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.calls.call import Call, call_from
from compat.errors import BadRequest
from compat.wire.envelope import Envelope

GOOD = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def call_of(document: dict[str, Any]) -> Call:
    return call_from(Envelope(json.dumps(document).encode()), request_id="r1", client="ada", received_s=5.0)


def test_a_call_knows_its_model_and_who_asked_when() -> None:
    call = call_of(GOOD)
    assert (call.model, call.request_id, call.client, call.received_s, call.wire_api) == ("m", "r1", "ada", 5.0, "openai.chat")
    assert json.loads(call.envelope.body) == GOOD


def test_a_models_name_is_stripped() -> None:
    assert call_of({**GOOD, "model": " m\n"}).model == "m"


@pytest.mark.parametrize(
    ("more", "is_stream", "wants_usage"),
    [
        ({}, False, False),
        ({"stream": None}, False, False),
        ({"stream": False, "stream_options": None}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": 1}}, True, False),
    ],
)
def test_streaming_and_usage_are_read(more: dict[str, Any], is_stream: bool, wants_usage: bool) -> None:
    call = call_of({**GOOD, **more})
    assert (call.is_stream, call.wants_usage) == (is_stream, wants_usage)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None),
        ("model", 5),
        ("model", ""),
        ("model", "  "),
        ("model", ["m"]),
        ("model", "m" * 501),
        ("stream", "true"),
        ("stream", 1),
        ("messages", None),
        ("messages", "Hi"),
        ("messages", {}),
        ("messages", []),
        ("stream_options", 5),
        ("stream_options", "usage"),
        ("stream_options", [1]),
    ],
)
def test_a_wrong_key_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"'{key}' must") as caught:
        call_of({**GOOD, key: value})
    assert caught.value.param == key


@pytest.mark.parametrize("key", ["model", "messages"])
def test_a_missing_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(BadRequest, match=f"'{key}' must"):
        call_of({name: value for name, value in GOOD.items() if name != key})


def test_an_empty_list_may_hold_blanks() -> None:
    with pytest.raises(BadRequest, match="at least one message"):
        call_from(Envelope(b'{"model": "m", "messages": [ \n ]}'), request_id="r", client="c", received_s=0.0)
