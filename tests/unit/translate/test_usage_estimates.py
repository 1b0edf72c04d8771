"""Usage that an upstream leaves out, streamed and whole."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from compat.catalog import Model, Price
from compat.translate.base import TranslationContext
from compat.translate.openai_openai import OPENAI_OPENAI, PassthroughStream
from tests.fakes.openai_answers import TOOL_CALLS, chunk, completion, event, text_chunks

CTX = TranslationContext(
    "alias", "their-model", Model(price=Price(1.0, 10.0)), "chatcmpl-ours", 17, is_stream=True, wants_usage=True, count_prompt=lambda: 1234
)


@pytest.mark.parametrize("told", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_usage_that_an_upstream_leaves_out_is_estimated_and_marked(told: Any) -> None:
    stream = PassthroughStream(CTX)
    words = "the quick brown fox jumps over the lazy dog and back again. " * 10
    chunks = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word + " "}) for word in words.split()), chunk({}, "stop")]
    if told is not None:
        chunks.append({**chunk({}), "choices": [], "usage": told})
    frames = stream.feed(b"".join(event(item) for item in chunks)) + stream.finish()
    usage = json.loads(frames.split(b"\n\n")[-3].removeprefix(b"data: "))["usage"]
    assert (usage["prompt_tokens"], usage["is_estimate"]) == (1234, True)
    assert 100 < usage["completion_tokens"] < 220
    assert usage["cost_details"]["upstream_inference_cost"] > 0.001
    assert stream.usage is not None
    assert stream.usage.is_estimate


def test_usage_that_an_upstream_tells_is_never_replaced_by_an_estimate() -> None:
    stream = PassthroughStream(CTX)
    stream.feed(b"".join(event(item) for item in text_chunks()))
    stream.finish()
    assert stream.usage is not None
    assert (stream.usage.prompt_tokens, stream.usage.is_estimate) == (11, False)


def test_a_call_in_many_pieces_counts_about_as_much_as_in_one() -> None:
    arguments = json.dumps({"path": "a.py", "content": "print('hello')\n" * 40})
    counts = []
    for size in (4, 40, len(arguments)):
        call = chunk({"tool_calls": [{**TOOL_CALLS[0], "index": 0, "function": {"name": "write", "arguments": ""}}]})
        pieces = [arguments[start : start + size] for start in range(0, len(arguments), size)]
        chunks = [
            call,
            *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces),
            chunk({}, "tool_calls"),
        ]
        stream = PassthroughStream(CTX)
        stream.feed(b"".join(event(item) for item in chunks))
        stream.finish()
        assert stream.usage is not None
        counts.append(stream.usage.completion_tokens)
    assert max(counts) < 2 * min(counts)
    assert len(arguments) / 6 < min(counts)


def test_a_whole_answer_is_estimated_too() -> None:
    answer = {key: value for key, value in completion("Hello there. " * 50).items() if key != "usage"}
    told = OPENAI_OPENAI.response(json.dumps(answer).encode(), replace(CTX, is_stream=False))
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.is_estimate) == (1234, True)
    assert 100 < told.usage.completion_tokens < 300
    assert json.loads(told.body)["usage"]["is_estimate"] is True
