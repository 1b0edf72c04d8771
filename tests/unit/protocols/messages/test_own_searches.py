"""Searches that the gateway made blocks of become words before Anthropic; what is not ours keeps its bytes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.protocols.base import TranslationContext
from compat.protocols.events import Found, Result
from compat.protocols.messages.own_searches import without_own
from compat.protocols.messages.relay import LOST, translate_request
from compat.protocols.sealed import PREFIX
from compat.protocols.served import found_block, search_id
from compat.wire.envelope import Envelope

CTX = TranslationContext("claude", "claude-opus-5-5", Model(id="claude-opus-5-5"), "msg_1", 17, is_stream=False)
USE = {"type": "server_tool_use", "id": search_id("call_1"), "name": "web_search", "input": {"query": "sea"}}
FOUND = found_block("call_1", Found((Result("https://a.example", "A", "Blue."),)))
SOURCE = {"type": "web_search_result_location", "url": "u", "title": "T", "encrypted_index": PREFIX, "cited_text": ""}
THEIRS = {**SOURCE, "encrypted_index": "theirs"}
ROWS: dict[str, tuple[Any, Any]] = {
    "a search": ([USE], [{"type": "text", "text": "Searched the web for: sea"}]),
    "what it found": ([FOUND], [{"type": "text", "text": "A: https://a.example\nBlue."}]),
    "nothing": ([found_block("c", Found())], [{"type": "text", "text": "Nothing was found."}]),
    "an error": ([found_block("c", Found(error="unavailable"))], [{"type": "text", "text": "error: unavailable"}]),
    "our source": ([{"type": "text", "text": "A", "citations": [SOURCE]}], [{"type": "text", "text": "A"}]),
    "one of them ours": (
        [{"type": "text", "text": "A", "citations": [SOURCE, THEIRS]}],
        [{"type": "text", "text": "A", "citations": [THEIRS]}],
    ),
}


def dumped(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


@pytest.mark.parametrize(("content", "expected"), ROWS.values(), ids=list(ROWS))
def test_ours_becomes_words(content: Any, expected: Any) -> None:
    kept = b'{ "role" : "user", "content": "Hi" }'
    messages, count = without_own(b"[%s,%s]" % (kept, dumped({"role": "assistant", "content": content})))
    assert count == 1
    assert kept in messages
    assert json.loads(messages)[1]["content"] == expected


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": f"the words {search_id('a')}"},
        {"type": "text", "text": search_id("a")},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": search_id("a")}},
        {"type": "text", "text": "A", "citations": 5, "id": search_id("a")},
    ],
)
def test_what_only_looks_like_it_keeps_its_bytes(block: Any) -> None:
    messages = b"[%s]" % dumped({"role": "assistant", "content": [block]}).replace(b'":', b'" : ')
    assert without_own(messages) == (messages, 0)


@pytest.mark.parametrize("refused", [frozenset(), frozenset({LOST})])
def test_the_relay_notes_it(refused: frozenset[str]) -> None:
    said = [{"type": "thinking", "thinking": "Hm.", "signature": ""}, USE, FOUND]
    document = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": said}]}
    sent = translate_request(Envelope(dumped(document)), dataclasses.replace(CTX, refused_parameters=refused))
    content = json.loads(sent.body)["messages"][1]["content"]
    assert [block["type"] for block in content] == ["text", "text"]
    assert sent.notes[:2] == ("thinking=omitted(1)", "search=words(2)")


def test_the_relay_has_no_note_where_nothing_was_ours() -> None:
    document = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": search_id("a")}]}]}
    assert translate_request(Envelope(dumped(document)), CTX).notes == ()
