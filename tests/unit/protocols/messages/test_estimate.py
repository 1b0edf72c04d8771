"""Estimates of requests: everything that a model reads counts, and none is far under what Anthropic's service counted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from compat import jsonio
from compat.protocols.messages.estimate import tokens_of
from compat.wire.envelope import Envelope

RECORDINGS = Path(__file__).resolve().parents[5] / "shared" / "recordings"
WORDS = "All of these words are read by the model, one after the other. " * 5
USER: dict[str, Any] = {"role": "user", "content": "Hi"}
TOOL: dict[str, Any] = {"name": "look", "description": WORDS, "input_schema": {"type": "object"}}


def count(*messages: Any, **rest: Any) -> int:
    return tokens_of(Envelope(jsonio.encode({"model": "m", "messages": list(messages) or [USER], **rest})))


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def result(content: Any) -> dict[str, Any]:
    return user({"type": "tool_result", "tool_use_id": "t", "content": content})


PLAIN = count(user())
READ = [
    pytest.param(user({"type": "text", "text": WORDS}), id="text"),
    pytest.param({"role": "user", "content": WORDS}, id="a string"),
    pytest.param(user({"type": "thinking", "thinking": WORDS, "signature": "s"}), id="thinking"),
    pytest.param(user({"type": "thinking", "thinking": "", "signature": "s" * len(WORDS)}), id="a sealed thought"),
    pytest.param(user({"type": "redacted_thinking", "data": "s" * len(WORDS)}), id="redacted thinking"),
    pytest.param(user({"type": "tool_use", "id": "t", "name": "look", "input": {"at": WORDS}}), id="a call"),
    pytest.param(result(WORDS), id="a result"),
    pytest.param(result([{"type": "text", "text": WORDS}]), id="blocks in a result"),
    pytest.param(result([{"type": "image", "source": {"type": "base64", "data": "x"}}]), id="a picture in a result"),
    pytest.param(user({"type": "image", "source": {"type": "url", "url": "u"}}), id="a picture"),
    pytest.param(user({"type": "document", "source": {"type": "base64", "data": "x"}}), id="a PDF"),
    pytest.param(user({"type": "document", "source": {"type": "text", "data": WORDS}, "title": "T"}), id="a document of text"),
    pytest.param(user({"type": "document", "source": {"type": "content", "content": WORDS}}), id="a document of blocks"),
    pytest.param(user({"type": "document", "source": {"type": "url", "url": "u"}}), id="a document elsewhere"),
    pytest.param(user({"type": "document", "source": {"type": "base64"}}), id="a document without data"),
    pytest.param(user({"type": "document", "context": WORDS}), id="a document without a source"),
    pytest.param(user({"type": "search_result", "title": WORDS}), id="a block of another type"),
    pytest.param(user(WORDS), id="a string among blocks"),
    pytest.param(WORDS, id="a message that is none"),
]


@pytest.mark.parametrize("message", READ)
def test_whatever_a_model_reads_counts(message: Any) -> None:
    assert count(message) - PLAIN >= len(WORDS) / 5


@pytest.mark.parametrize("system", [WORDS, [{"type": "text", "text": WORDS}]])
def test_the_system_prompt_counts(system: Any) -> None:
    assert count(system=system) - count() >= len(WORDS) / 5


def test_tools_count_with_what_a_server_says_about_them() -> None:
    one, two = count(tools=[TOOL]), count(tools=[TOOL, TOOL])
    assert two - one >= len(WORDS) / 5
    assert one - count() > 2 * (two - one)
    assert count(tools=[{"type": "web_search_20250305", "name": "web_search"}]) > count(tools=[{"name": "web_search"}])
    assert count(tools=["no tool"]) > count(tools=[]) == count(tools=None)


def test_a_deferred_tool_counts_once_a_result_has_named_it() -> None:
    hidden = {**TOOL, "defer_loading": True}
    assert count(tools=[hidden]) == count()
    found = result([{"type": "tool_reference", "tool_name": "look"}])
    assert count(found, tools=[hidden]) - count(found) >= len(WORDS) / 5
    assert count(tools=[{**hidden, "name": []}]) == count()


def test_thinking_and_a_demanded_structure_take_words_of_the_servers_own() -> None:
    assert count(thinking={"type": "adaptive"}) > count(thinking={"type": "disabled"}) == count()
    wanted = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert count(output_config=wanted) > count(output_config={"effort": "low"}) == count()


def test_what_is_no_conversation_is_no_fault() -> None:
    assert tokens_of(Envelope(b'{"messages": 5}')) > 0


@pytest.mark.parametrize("name", ["json-tool-result", "json-tool", "stream-text", "stream-thinking", "stream-tool"])
def test_no_estimate_is_five_percent_under_what_was_recorded(name: str) -> None:
    path = RECORDINGS / f"anthropic-{name}.json"
    if not path.exists():
        pytest.skip("the recordings are not here")
    recorded = json.loads(path.read_text())
    told = [int(found) for found in re.findall(r'"input_tokens": ?(\d+)', json.dumps(recorded["body"]).replace("\\", ""))]
    assert tokens_of(Envelope(jsonio.encode(recorded["request"]))) >= 0.95 * max(told)
