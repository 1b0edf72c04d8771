"""Answers: text, calls, thinking, citations, unknown blocks, usage, ends (rules 1, 2, 5, 7, 8, 16, 17, 18, 23, 25, 29)."""

from __future__ import annotations

from typing import Any

from compat.protocols.base import AnswerMemory, ThinkingRecord
from tests.cases.messages import AnswerRow
from tests.fakes.anthropic_answers import redacted_thinking, server_tool_use, text, thinking, tool_use, web_citation, web_search_result

RENAMED = AnswerMemory({"mcp_read_1a2b3c": "mcp.read"})
STRUCTURED = AnswerMemory(answer_tool="answer_as_json")
THOUGHT, MORE = thinking("Let me see.", proof="abc"), thinking("And now?", proof="def")
UNSEEN, UNSIGNED, HIDDEN = thinking("", proof="abc"), thinking("Hm.", proof=""), redacted_thinking(data="xyz")
WORDS = 'Grüße, "\\ \n\u2028 \U0001f600 漢字 end'


def call(call_id: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def cited(start: int, end: int, url: str = "https://example.com/a", title: str = "A page") -> dict[str, Any]:
    return {"type": "url_citation", "url_citation": {"url": url, "title": title, "start_index": start, "end_index": end}}


def kept(*blocks: Any, ids: tuple[str, ...] = ("toolu_1",)) -> ThinkingRecord:
    return ThinkingRecord(ids, blocks)


TEXT = [
    AnswerRow((25,), "text is text", [text("Hello there.")], {"content": "Hello there."}),
    AnswerRow((25,), "texts of several blocks are one", [text("Hello "), text("there.")], {"content": "Hello there."}),
    AnswerRow((25,), "characters of every kind survive", [text(WORDS)], {"content": WORDS}),
    AnswerRow((14, 25), "an answer of nothing is empty text", [], {"content": ""}),
    AnswerRow((14, 25), "so is one of empty text", [text("")], {"content": ""}),
]

CALLS = [
    AnswerRow(
        (1,),
        "calls are counted whatever blocks lie between",
        [text("A"), tool_use("read", {"p": "a"}), THOUGHT, tool_use("list", {"p": [1]}, "toolu_2")],
        {
            "content": "A",
            "reasoning_content": "Let me see.",
            "tool_calls": [call("toolu_1", "read", '{"p": "a"}'), call("toolu_2", "list", '{"p": [1]}')],
        },
        "tool_calls",
        thinking=kept(
            {"type": "text", "chars": 1},
            {"type": "tool_use", "id": "toolu_1"},
            THOUGHT,
            {"type": "tool_use", "id": "toolu_2"},
            ids=("toolu_1", "toolu_2"),
        ),
    ),
    AnswerRow(
        (1,),
        "arguments keep their bytes",
        [tool_use("read", {"p": WORDS, "n": 1.0, "é": None})],
        {
            "content": None,
            "tool_calls": [call("toolu_1", "read", '{"p": "Grüße, \\"\\\\ \\n\u2028 \U0001f600 漢字 end", "n": 1.0, "é": null}')],
        },
        "tool_calls",
    ),
    AnswerRow(
        (2,),
        "a call without input has empty arguments that are JSON",
        [tool_use("read")],
        {"content": None, "tool_calls": [call("toolu_1", "read")]},
        "tool_calls",
    ),
    AnswerRow(
        (2,),
        "two of them",
        [tool_use("read"), tool_use("list", {}, "toolu_2")],
        {"content": None, "tool_calls": [call("toolu_1", "read"), call("toolu_2", "list")]},
        "tool_calls",
    ),
    AnswerRow(
        (5,),
        "the client sees its own name of a tool",
        [tool_use("mcp_read_1a2b3c")],
        {"content": None, "tool_calls": [call("toolu_1", "mcp.read")]},
        "tool_calls",
        memory=RENAMED,
    ),
    AnswerRow(
        (5,),
        "and the upstream's where it has none",
        [tool_use("read")],
        {"content": None, "tool_calls": [call("toolu_1", "read")]},
        "tool_calls",
        memory=RENAMED,
    ),
    AnswerRow(
        (1, 17),
        "calls that were cut off tell so",
        [tool_use("read", {"p": "a"})],
        {"content": None, "tool_calls": [call("toolu_1", "read", '{"p": "a"}')]},
        "length",
        "max_tokens",
    ),
    AnswerRow(
        (23,),
        "the input of the tool that structures an answer is its text",
        [tool_use("answer_as_json", {"a": [1, "é"]})],
        {"content": '{"a": [1, "é"]}'},
        memory=STRUCTURED,
    ),
    AnswerRow((23,), "an empty one too", [tool_use("answer_as_json")], {"content": "{}"}, memory=STRUCTURED),
    AnswerRow(
        (23, 17),
        "one that was cut off tells so",
        [text("A"), tool_use("answer_as_json", {"a": 1})],
        {"content": 'A{"a": 1}'},
        "length",
        "max_tokens",
        memory=STRUCTURED,
    ),
]

THINKING = [
    AnswerRow((8,), "thinking is shown", [THOUGHT, text("Four.")], {"content": "Four.", "reasoning_content": "Let me see."}),
    AnswerRow(
        (8,),
        "several thoughts are one",
        [THOUGHT, text("Four."), MORE, text("Five.")],
        {"content": "Four.Five.", "reasoning_content": "Let me see.And now?"},
    ),
    AnswerRow((8,), "redacted blocks are never shown", [HIDDEN, text("Four.")], {"content": "Four."}),
    AnswerRow((8,), "nor is what the upstream does not show", [UNSEEN, text("Four.")], {"content": "Four."}),
    AnswerRow(
        (7, 8),
        "thinking before a call is kept, verbatim and in order",
        [THOUGHT, HIDDEN, text("So:"), MORE, tool_use("read", {"p": "a"}), tool_use("list", None, "toolu_2")],
        {
            "content": "So:",
            "reasoning_content": "Let me see.And now?",
            "tool_calls": [call("toolu_1", "read", '{"p": "a"}'), call("toolu_2", "list")],
        },
        "tool_calls",
        thinking=kept(
            THOUGHT,
            HIDDEN,
            {"type": "text", "chars": 3},
            MORE,
            {"type": "tool_use", "id": "toolu_1"},
            {"type": "tool_use", "id": "toolu_2"},
            ids=("toolu_1", "toolu_2"),
        ),
    ),
    AnswerRow(
        (7,),
        "thinking that is not shown is kept all the same",
        [UNSEEN, tool_use("read")],
        {"content": None, "tool_calls": [call("toolu_1", "read")]},
        "tool_calls",
        thinking=kept(UNSEEN, {"type": "tool_use", "id": "toolu_1"}),
    ),
    AnswerRow(
        (7,),
        "thinking without a signature is not kept",
        [UNSIGNED, tool_use("read")],
        {"content": None, "reasoning_content": "Hm.", "tool_calls": [call("toolu_1", "read")]},
        "tool_calls",
    ),
    AnswerRow(
        (7, 23),
        "nor is thinking before no call",
        [THOUGHT, tool_use("answer_as_json")],
        {"content": "{}", "reasoning_content": "Let me see."},
        memory=STRUCTURED,
    ),
]

SEARCH = [
    text("Look: "),
    server_tool_use(),
    web_search_result(),
    text("Sunny.", [web_citation(), web_citation("https://example.com/b", "B")]),
    text(" Warm.", [web_citation()]),
]
ELSEWHERE = {
    "type": "char_location",
    "cited_text": "a",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 1,
}
SERVER = [
    AnswerRow(
        (29,),
        "a search on the web is left out, its citations are annotations of the text",
        SEARCH,
        {"content": "Look: Sunny. Warm.", "annotations": [cited(6, 12), cited(6, 12, "https://example.com/b", "B"), cited(12, 18)]},
        notes=("left_out=server_tool_use", "left_out=web_search_tool_result"),
    ),
    AnswerRow(
        (29, 1),
        "calls around it are counted",
        [tool_use("read"), server_tool_use(), web_search_result(), tool_use("list", None, "toolu_2")],
        {"content": None, "tool_calls": [call("toolu_1", "read"), call("toolu_2", "list")]},
        "tool_calls",
        notes=("left_out=server_tool_use", "left_out=web_search_tool_result"),
    ),
    AnswerRow(
        (29,),
        "results of executed code are left out",
        [{"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {"stdout": "4"}}, text("Four.")],
        {"content": "Four."},
        notes=("left_out=code_execution_tool_result",),
    ),
    AnswerRow(
        (29,),
        "blocks that nobody knows too",
        [{"type": "hologram", "data": [1]}, text("A"), {"type": "hologram"}],
        {"content": "A"},
        notes=("left_out=hologram(2)",),
    ),
    AnswerRow(
        (29,), "citations of documents have no counterpart", [text("A", [ELSEWHERE])], {"content": "A"}, notes=("left_out=citation",)
    ),
    AnswerRow(
        (29,),
        "a citation without a title has an empty one",
        [text("A", [{**web_citation(), "title": None}])],
        {"content": "A", "annotations": [cited(0, 1, title="")]},
    ),
]

CREATION = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 900}
FULL = {
    "input_tokens": 10,
    "cache_read_input_tokens": 2000,
    "cache_creation_input_tokens": 1000,
    "cache_creation": CREATION,
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
}
USAGE = [
    AnswerRow(
        (16,),
        "the prompt is what was new, read and written",
        [text("A")],
        {"content": "A"},
        counted=FULL,
        usage={
            "prompt_tokens": 3010,
            "completion_tokens": 50,
            "total_tokens": 3060,
            "prompt_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 1000},
            "completion_tokens_details": {"reasoning_tokens": 20},
            "cache_read_input_tokens": 2000,
            "cache_creation_input_tokens": 1000,
            "cost_details": {"upstream_inference_cost": (10 * 3 + 2000 * 0.3 + 100 * 3.75 + 900 * 6 + 50 * 15) / 1e6},
        },
    ),
    AnswerRow(
        (16,),
        "counts that are null or missing are none",
        [text("A")],
        {"content": "A"},
        counted={"input_tokens": 10, "cache_read_input_tokens": None, "output_tokens": 1, "output_tokens_details": None},
        usage={
            "prompt_tokens": 10,
            "completion_tokens": 1,
            "total_tokens": 11,
            "cache_read_input_tokens": 0,
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    ),
    AnswerRow(
        (16,),
        "so are counts that are none",
        [text("A")],
        {"content": "A"},
        counted={
            "input_tokens": True,
            "cache_creation_input_tokens": -5,
            "cache_read_input_tokens": "1",
            "output_tokens": 1,
            "cache_creation": {"ephemeral_1h_input_tokens": 1.5},
            "output_tokens_details": {},
        },
        usage={"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1},
    ),
]

ENDS = [
    AnswerRow((17,), "an end is a stop", [text("A")], {"content": "A"}, "stop", "end_turn"),
    AnswerRow((17,), "a stop sequence is a stop", [text("A")], {"content": "A"}, "stop", "stop_sequence"),
    AnswerRow((17,), "the limit is a length", [text("A")], {"content": "A"}, "length", "max_tokens"),
    AnswerRow((17,), "a full context is a length", [text("A")], {"content": "A"}, "length", "model_context_window_exceeded"),
    AnswerRow(
        (17,),
        "a reason that nobody knows is a stop and told of",
        [text("A")],
        {"content": "A"},
        "stop",
        "tired",
        notes=("stop_reason=tired",),
    ),
    AnswerRow(
        (17,),
        "or calls where there are some",
        [tool_use("read")],
        {"content": None, "tool_calls": [call("toolu_1", "read")]},
        "tool_calls",
        "tired",
        notes=("stop_reason=tired",),
    ),
    AnswerRow((17, 2), "calls without a call are a stop", [text("A")], {"content": "A"}, "stop", "tool_use"),
    AnswerRow(
        (18,),
        "a refusal is a filter, with the upstream's words",
        [text("Well,")],
        {"content": "Well,", "refusal": "Not that."},
        "content_filter",
        "refusal",
        {"type": "refusal", "category": "cyber", "explanation": "Not that."},
        choice={"native_finish_reason": "refusal", "stop_details": {"type": "refusal", "category": "cyber", "explanation": "Not that."}},
    ),
    AnswerRow(
        (18,),
        "with its category where there are no words",
        [],
        {"content": None, "refusal": "The model refused to answer (bio)."},
        "content_filter",
        "refusal",
        {"category": "bio", "explanation": ""},
        choice={"native_finish_reason": "refusal", "stop_details": {"category": "bio", "explanation": ""}},
    ),
    AnswerRow(
        (18,),
        "and without both",
        [],
        {"content": None, "refusal": "The model refused to answer."},
        "content_filter",
        "refusal",
        choice={"native_finish_reason": "refusal", "stop_details": None},
    ),
]

ANSWERS = [*TEXT, *CALLS, *THINKING, *SERVER, *USAGE, *ENDS]
