"""Usage that an upstream leaves out, streamed and whole."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from compat.config.catalog import Model, Price
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext
from compat.protocols.chat.passthrough import OPENAI_OPENAI, PassthroughStream
from compat.wire.usage import Usage
from tests.fakes.anthropic_answers import event_bytes
from tests.fakes.openai_answers import TOOL_CALLS, chunk, completion, event, text_chunks

ANTHROPIC = TRANSLATORS["openai.chat", "anthropic.messages"]
CTX = TranslationContext(
    "alias", "their-model", Model(price=Price(1.0, 10.0)), "chatcmpl-ours", 17, is_stream=True, wants_usage=True, count_prompt=lambda: 1234
)
WORDS = "the quick brown fox jumps over the lazy dog and back again. " * 10


@pytest.mark.parametrize("told", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_usage_that_an_upstream_leaves_out_is_estimated_and_marked(told: Any) -> None:
    stream = PassthroughStream(CTX)
    chunks = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word + " "}) for word in WORDS.split()), chunk({}, "stop")]
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


def test_a_stream_that_is_cut_short_has_used_its_prompt_and_what_was_written() -> None:
    stream = PassthroughStream(CTX)
    stream.feed(b"".join(event(chunk({"content": word + " "})) for word in WORDS.split()))
    used = stream.usage_so_far()
    assert (used.prompt_tokens, used.is_estimate) == (1234, True)
    assert 100 < used.completion_tokens < 220
    assert PassthroughStream(replace(CTX, count_prompt=None)).usage_so_far().prompt_tokens == 0


def test_of_an_upstream_that_tells_its_counts_all_along_these_are_taken() -> None:
    stream = PassthroughStream(CTX)
    stream.feed(event({**chunk({"content": "Hello"}), "usage": {"prompt_tokens": 7, "completion_tokens": 1}}))
    assert stream.usage_so_far() == Usage(prompt_tokens=7, completion_tokens=1)


@pytest.mark.parametrize(
    ("block", "kind", "name"),
    [({"type": "text", "text": ""}, "text_delta", "text"), ({"type": "thinking", "thinking": ""}, "thinking_delta", "thinking")],
)
def test_of_claude_the_prompt_is_known_from_the_first_event_on_and_the_answer_is_estimated(
    block: dict[str, Any], kind: str, name: str
) -> None:
    stream = ANTHROPIC.stream(CTX)
    assert stream.usage_so_far() == Usage(prompt_tokens=1234, is_estimate=True)
    assert ANTHROPIC.stream(replace(CTX, count_prompt=None)).usage_so_far() == Usage(is_estimate=True)
    counts = {"input_tokens": 40, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 60, "output_tokens": 1}
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": kind, name: word + " "}} for word in WORDS.split()]
    begun = {"type": "content_block_start", "index": 0, "content_block": block}
    stream.feed(event_bytes([{"type": "message_start", "message": {"usage": counts}}]))
    assert stream.usage_so_far().completion_tokens == 1
    stream.feed(event_bytes([begun, *deltas]))
    used = stream.usage_so_far()
    assert (used.prompt_tokens, used.cache_read_tokens, used.cache_write_tokens, used.is_estimate) == (1000, 900, 60, True)
    assert 100 < used.completion_tokens < 220


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
