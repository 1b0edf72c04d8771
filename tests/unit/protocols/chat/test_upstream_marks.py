"""Marks for the prompt cache go to upstreams of OpenAI's chat that take them, where the client put them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext
from compat.wire.envelope import Envelope

PAIR = TRANSLATORS["anthropic.messages", "openai.chat"]
CTX = TranslationContext("claude", "m-1", Model(id="m-1", images=True), "msg_1", 17, is_stream=False, takes_marks=True)
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def text(words: str, **mark: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **mark}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def sent(*messages: Any, ctx: TranslationContext = CTX, **fields: Any) -> Any:
    envelope = Envelope(json.dumps({"model": "claude", "max_tokens": 9, "messages": list(messages), **fields}).encode())
    return json.loads(PAIR.request(envelope, ctx).body)["messages"]


def test_instructions_and_words_are_marked() -> None:
    system, said = sent(user(text("Hi", **HOUR)), system=[text("Be kind.", **MARK), text("Be short.")])
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be kind.\n\nBe short.", **MARK}]}
    assert said == {"role": "user", "content": [{"type": "text", "text": "Hi", **HOUR}]}


def test_a_result_is_marked_as_a_message_and_so_is_what_follows_it() -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "read", "input": {}}]}
    for result in (
        {"type": "tool_result", "tool_use_id": "t", "content": "ok", **MARK},
        {"type": "tool_result", "tool_use_id": "t", "content": [text("ok", **MARK)]},
    ):
        found = sent(user(text("Hi")), call, user(result))
        assert found[-1] == {"role": "tool", "tool_call_id": "t", "content": "ok", **MARK}
        assert found[0] == {"role": "user", "content": "Hi"}


def test_a_mark_stands_on_the_last_of_several_parts() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/a.png"}}
    [said] = sent(user(image, text("See.", **MARK)))
    assert [part.get("cache_control") for part in said["content"]] == [None, MARK["cache_control"]]


def test_a_mark_of_the_request_is_the_last_messages() -> None:
    first, last = sent(user(text("Hi")), {"role": "assistant", "content": "Yes?"}, user(text("Go.")), **MARK)[::2]
    assert first == {"role": "user", "content": "Hi"}
    assert last["content"] == [{"type": "text", "text": "Go.", **MARK}]


def test_no_more_marks_are_sent_than_are_taken_the_instructions_among_them() -> None:
    turns = [one for number in range(6) for one in (user(text(f"{number}", **MARK)), {"role": "assistant", "content": "So."})]
    found = sent(*turns, user(text("Go.")), system=[text("Be kind.", **MARK)])
    assert [isinstance(one["content"], list) for one in found if one["role"] != "assistant"] == [True, *[False] * 3, *[True] * 3, False]
    bare = sent(*turns, user(text("Go.")))
    assert sum(isinstance(one["content"], list) for one in bare) == 4


@pytest.mark.parametrize("changes", [{"takes_marks": False}, {"refused_parameters": frozenset({"cache_control"})}])
def test_others_get_none(changes: Any) -> None:
    found = sent(user(text("Hi", **MARK)), ctx=dataclasses.replace(CTX, **changes))
    assert found == [{"role": "user", "content": "Hi"}]
