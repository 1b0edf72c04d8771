"""Neutral requests of any client's as bodies of Anthropic's: what OpenAI's chat can't say."""

from __future__ import annotations

from typing import Any

import pytest

from compat.errors import Unsupported
from compat.protocols.messages.request import write_request
from compat.protocols.request import (
    Block,
    Document,
    Freeform,
    Image,
    Reasoning,
    Request,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
    Unknown,
)
from tests.cases.messages import OLD, PNG, SONNET
from tests.cases.messages_checks import accepted, context

HELLO = Turn("user", (Text("input[0]", "Hello"),), "input[0]", 0)


def asked(*turns: Turn, tools: tuple[Tool, ...] = (), **rest: Any) -> Request:
    return Request("openai.responses", turns, tools, **rest)


def user(*blocks: Block) -> Turn:
    return Turn("user", blocks, "input[1]", 1)


def body_of(request: Request, model: str = SONNET) -> tuple[dict[str, Any], tuple[str, ...]]:
    ctx = context(model)
    written = write_request(request, ctx)
    assert write_request(request, ctx) == written, "translation may run again"
    return accepted(written, ctx), written.notes


def test_results_and_words_of_one_turn_are_one_message_results_first() -> None:
    calls = tuple(ToolCall(f"input[{number}]", f"c{number}", "read", {"a": 1}) for number in (1, 2))
    results = (
        ToolResult("input[3]", "c1", (Text("input[3].output", "no"),), is_error=True),
        Text("input[4]", "And now?"),
        ToolResult("input[5]", "c2", (Image("input[5].output[0]", "image/png", PNG), Text("input[5].output[1]", "ok")), cache="1h"),
    )
    body, notes = body_of(asked(HELLO, Turn("assistant", calls, "input[1]", 1), user(*results)))
    assert [block["type"] for block in body["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]
    assert body["messages"][2]["content"][0] == {"type": "tool_result", "tool_use_id": "c1", "is_error": True, "content": "no"}
    assert body["messages"][2]["content"][1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert notes == ("added=tools(1)",)


def test_a_stray_result_keeps_its_mark() -> None:
    body, notes = body_of(asked(user(ToolResult("input[1]", "gone", (Text("input[1].output", "no"),), cache="default"))))
    assert [block.get("cache_control") for block in body["messages"][0]["content"]] == [None, {"type": "ephemeral"}]
    assert notes == ("moved=stray_result@1",)


def test_blocks_in_the_upstreams_own_words_are_sent_as_they_are() -> None:
    search = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "found"}]}
    document = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}}
    blocks = (
        Unknown("messages[0].content[0]", "anthropic.messages", "search_result", search, cache="default"),
        Document("messages[0].content[1]", text="Hi", origin="anthropic.messages", value=document),
    )
    body, _ = body_of(asked(user(*blocks)))
    mark = {"cache_control": {"type": "ephemeral"}}
    assert body["messages"][0]["content"] == [search | mark, document | mark]
    assert "cache_control" not in {**search, **document}


def test_what_an_assistant_said_in_another_protocol_is_left_out_and_noted_with_its_place() -> None:
    said = (Unknown("input[1]", "openai.responses", "web_search_call", {}), Thinking("input[2]", "Hm."), Text("input[3]", "So."))
    body, notes = body_of(asked(HELLO, Turn("assistant", said, "input[1]", 1), user(Text("input[4]", "Go on"))))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "So."}]
    assert notes == ("dropped=input[1]", "thinking=omitted")


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        (asked(user(Image("input[1].content[0]", file_id="file-1"))), "input[1].content[0]"),
        (asked(user(Document("input[1].content[0]", file_id="file-1"))), "input[1].content[0]"),
        (asked(user(Unknown("input[1].content[0]", "openai.responses", "sound"))), "input[1].content[0]"),
        (asked(HELLO, Turn("assistant", (ToolCall("input[1]", "a", "patch", "***", "freeform"),), "input[1]", 1)), "input[1]"),
        (asked(HELLO, tools=(Freeform("tools[0]", "patch"),)), "tools[0]"),
        (asked(HELLO, answers=2), "answers"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_the_clients_place(request_: Request, place: str) -> None:
    with pytest.raises(Unsupported) as caught:
        write_request(request_, context(SONNET))
    assert caught.value.param == place
    assert place in caught.value.message


def test_notes_have_the_clients_names() -> None:
    request = asked(
        HELLO,
        limit=10**9,
        names={"limit": "max_output_tokens", "effort": "reasoning.effort", "stop": "stop_sequences", "user_id": "safety_identifier"},
        reasoning=Reasoning("xhigh", extras=("reasoning.summary",)),
        stop=(" ",),
        user_id="ada@example.org",
        extras={"truncation": b'"auto"'},
    )
    assert body_of(request)[1] == (
        "dropped=truncation",
        "clamped=max_output_tokens",
        "dropped=reasoning.summary",
        "clamped=reasoning.effort",
        "dropped=stop_sequences(whitespace)",
        "hashed=safety_identifier",
    )


def test_adaptive_thinking_without_an_effort_is_thinking_that_does_not_save() -> None:
    body, _ = body_of(asked(HELLO, reasoning=Reasoning(is_adaptive=True)))
    assert (body["thinking"]["type"], body["output_config"]) == ("adaptive", {"effort": "high"})
    old, _ = body_of(asked(HELLO, reasoning=Reasoning(is_adaptive=True)), OLD)
    assert old["thinking"] == {"type": "enabled", "budget_tokens": 20_000}


def test_sampling_is_taken_as_it_is() -> None:
    body, notes = body_of(asked(HELLO, sampling=Sampling(0.5, None, 40)))
    assert (body["temperature"], body["top_k"], notes) == (0.5, 40, ())


def test_blocks_that_the_upstream_does_not_take_are_the_text_that_they_were_written_in() -> None:
    drawing = Document("input[2].output[0]", "image/bmp", data="Qk0=")
    results = (ToolResult("input[2]", "a", (drawing,), written='[{"type":"image"}]'),)
    body, _ = body_of(asked(HELLO, Turn("assistant", (ToolCall("input[1]", "a", "read"),), "input[1]", 1), user(*results)))
    assert body["messages"][2]["content"][0]["content"] == '[{"type":"image"}]'
