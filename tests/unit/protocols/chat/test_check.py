"""The check of messages, for upstreams that would take malformed ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.errors import BadRequest, Unsupported
from compat.protocols.chat.check import check_messages
from compat.wire.envelope import Envelope

USER = {"role": "user", "content": "Hi"}


def check(document: dict[str, Any], **rest: Any) -> None:
    check_messages(Envelope(json.dumps(document).encode()), **rest)


@pytest.mark.parametrize(
    "message",
    [
        USER,
        {"role": "system", "content": ""},
        {"role": "developer", "content": "x"},
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
        {"role": "function", "name": "f", "content": "done"},
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "user", "content": [], "unheard_of": 1},
    ],
    ids=lambda message: json.dumps(message)[:60],
)
def test_a_sound_message_passes(message: dict[str, Any]) -> None:
    check({"messages": [USER, message]})


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"content": "x"}, r"missing required field `role` - at `\$\.messages\[1\]`"),
        ({"role": "wizard", "content": "x"}, r"Invalid enum value 'wizard' - at `\$\.messages\[1\]\.role`"),
        ({"role": 5, "content": "x"}, r"at `\$\.messages\[1\]\.role`"),
        ({"role": "user", "content": 5}, r"at `\$\.messages\[1\]\.content`"),
        ({"role": "user", "content": {"text": "x"}}, r"at `\$\.messages\[1\]\.content`"),
        ({"role": "user", "content": ["x"]}, r"at `\$\.messages\[1\]\.content\[0\]`"),
        ({"role": "user", "content": [{"text": "x"}]}, r"at `\$\.messages\[1\]\.content\[0\]`"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, r"at `\$\.messages\[1\]\.content\[0\]\.text`"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, r"missing required field `id`"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]}, r"missing required field `name`"),
        ({"role": "assistant", "tool_calls": {}}, r"at `\$\.messages\[1\]\.tool_calls`"),
        ("Hi", r"at `\$\.messages\[1\]`"),
        (None, r"at `\$\.messages\[1\]`"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_malformed_message_is_refused_with_its_place(message: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=r"The request is malformed: .*" + words):
        check({"messages": [USER, message]})


@pytest.mark.parametrize("role", ["system", "developer", "user", "tool", "function"])
@pytest.mark.parametrize("rest", [{}, {"content": None}, {"content": None, "tool_calls": []}], ids=["missing", "null", "no calls"])
def test_only_an_assistant_may_say_nothing(role: str, rest: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"messages\[1\] has no content\.") as caught:
        check({"messages": [USER, {"role": role, **rest}]})
    assert caught.value.param == "messages[1].content"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("max_tokens", 1, 0),
        ("max_completion_tokens", 1, -1),
        ("temperature", 0, -0.1),
        ("top_p", 0, -1),
        ("n", 1, 0),
    ],
)
def test_a_number_has_a_least_value(name: str, good: float, bad: float) -> None:
    check({"messages": [USER], name: good})
    check({"messages": [USER], name: None})
    with pytest.raises(BadRequest, match=f"'{name}' must be at least") as caught:
        check({"messages": [USER], name: bad})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", "many"),
        ("max_tokens", 1.5),
        ("temperature", "hot"),
        ("stop", 5),
        ("stop", [5]),
        ("tools", {}),
        ("tools", [5]),
        ("n", True),
    ],
)
def test_a_parameter_of_the_wrong_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=rf"at `\$\.{name}"):
        check({"messages": [USER], name: value})


def test_the_rest_of_the_body_is_nobodys_business() -> None:
    check({"messages": [USER], "model": 5, "unheard_of": {"a": [1]}, "stop": ["a"], "tools": [{"type": "function"}]})


TEXT = {"type": "text", "text": "x"}


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "x" * 80])
def test_a_model_that_reads_text_only_is_given_nothing_else(kind: str) -> None:
    document = {"messages": [USER, {"role": "user", "content": [TEXT, {"type": kind}]}]}
    with pytest.raises(Unsupported, match=rf"messages\[1\]\.content\[1\] is of type '{kind[:50]}'") as caught:
        check(document, takes_images=False)
    assert caught.value.param == "messages[1].content"
    check(document, takes_images=True)


def test_a_model_that_reads_text_only_takes_text_in_parts() -> None:
    check({"messages": [USER, {"role": "user", "content": [TEXT, TEXT]}]}, takes_images=False)
