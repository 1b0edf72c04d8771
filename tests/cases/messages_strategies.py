"""Hypothesis strategies: conversations of OpenAI clients with all that they may hold, JSON gone wrong, answers of the Messages API."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from compat.protocols.base import Continuation, ThinkingRecord
from tests.cases.messages import HOUR, JPEG, MARK, PDF, PNG, call, image, result, said, system, text, tool
from tests.fakes.anthropic_answers import redacted_thinking, server_tool_use, thinking, tool_use, web_citation, web_search_result
from tests.fakes.anthropic_answers import text as answered
from tests.fakes.anthropic_rules import catalog

MODELS = (
    *sorted(name for name, model in catalog().models.items() if "anthropic" in model.ids),
    "claude-opus-4-1",
    "claude-3-opus",
    "claude-zeta-9",
    "some-model",
)
REFUSABLE = (
    "temperature",
    "top_p",
    "thinking",
    "thinking.display",
    "thinking.block_binding",
    "output_config.effort",
    "output_config.format",
)
REFUSABLE += ("tool_choice", "cache_control", "metadata", "service_tier", "messages.role", "messages.prefill", "messages.thinking", "top_k")

words = st.sampled_from(["", " ", "\n\t", "Hi", "  padded \n", "é\u2028\U0001f600", "\ud83d", '["image', "<system>", "x" * 300]) | st.text(
    max_size=6
)
ids = st.sampled_from(["a", "b", "c", "a.b", "0", "é", "x" * 90, ""])
names = st.sampled_from(["read", "mcp.read file", "n" * 70, "é"])
marks = st.sampled_from([{}, {}, {}, MARK, HOUR, {"cache_control": {"type": "ephemeral", "ttl": "5m"}}, {"cache_control": None}])
pictures = st.sampled_from(
    [
        image(f"data:image/png;base64,{PNG}"),
        image(f"data:image/png;base64,{JPEG}"),
        image("https://example.com/a.png"),
        image(f"data:;base64,{PDF}"),
    ]
)
files = st.just({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}})


def marked(values: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda value, mark: {**value, **mark}, values, marks)


texts = marked(st.builds(text, words))
said_content = st.one_of(words, st.none(), st.lists(texts, max_size=3))
user_content = st.one_of(words, st.lists(st.one_of(texts, marked(pictures), marked(files), words), max_size=4))
strings_of_parts = st.sampled_from(
    [
        f'[{{"type":"text","text":"a"}},{{"type":"image","data":"{PNG}","mimeType":"image/png"}}]',
        f'[{{"type":"image_url","image_url":{{"url":"data:image/gif;base64,{PNG}"}}}}]',
        '[{"type":"image"}]',
    ]
)
arguments = st.sampled_from(["", "{}", '{"a": 1.0}', '{"a', "[1]", None, {"a": None}, 5, '{"a":"\\ud83d"}', '{"' + "k" * 50 + '":[[[]]]}'])
calls = marked(st.builds(call, ids | st.none(), names, arguments))

messages = st.one_of(
    st.builds(lambda content, mark: {"role": "user", "content": content, **mark}, user_content, marks),
    st.builds(
        lambda content, mark, role: {**system(content, **mark), "role": role}, said_content, marks, st.sampled_from(["system", "developer"])
    ),
    st.builds(
        lambda content, made, mark, thought: said(content, *made, **mark, **thought),
        said_content,
        st.lists(calls, max_size=3),
        marks,
        st.sampled_from([{}, {"reasoning_content": "Hm."}, {"refusal": "No."}]),
    ),
    st.builds(lambda call_id, content, mark: result(call_id, content, **mark), ids | st.none(), user_content | strings_of_parts, marks),
)

SCHEMAS = (
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"type": "object", "additionalProperties": {"type": "string"}},
    {"anyOf": [{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}}, {"type": "string"}]},
    {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"type": "object", "properties": {"b": {"allOf": [{"$ref": "#/$defs/B"}]}}}, "B": {"type": "integer", "minimum": 1}},
    },
)
tools = st.lists(
    marked(
        st.builds(
            tool,
            names,
            st.sampled_from([None, *SCHEMAS, {"oneOf": [SCHEMAS[0], {"properties": {"a": {"type": "null"}}}]}, {"type": "string"}]),
        )
    ),
    max_size=4,
)
choices = st.one_of(
    st.sampled_from(["auto", "none", "required", {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool()]}}]),
    st.builds(lambda name: {"type": "function", "function": {"name": name}}, names),
)
formats = st.sampled_from(
    [
        {"type": "text"},
        {"type": "json_object"},
        *({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}} for schema in SCHEMAS),
    ]
)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "tools": tools,
        "tool_choice": choices,
        "parallel_tool_calls": st.booleans(),
        "max_tokens": st.sampled_from([1, 1024, 2047, 2048, 32_000, 10**7, None]),
        "max_completion_tokens": st.sampled_from([1, 3000]),
        "temperature": st.sampled_from([0, 0.3, 1, 1.0, 2, None]),
        "top_p": st.sampled_from([0, 0.3, 0.95, 1, None]),
        "top_k": st.sampled_from([-1, 0, 40]),
        "stop": st.sampled_from(["END", "\n", ["a", " ", ""], [], None]),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max", None]),
        "reasoning": st.sampled_from([{"max_tokens": 0}, {"max_tokens": 5000}, {"enabled": True}, {"effort": "high", "exclude": True}]),
        "thinking": st.sampled_from(
            [{"type": "enabled", "budget_tokens": 99_999}, {"type": "adaptive"}, {"type": "disabled"}, {"type": "enabled"}]
        ),
        "response_format": formats,
        "user": st.sampled_from(["u-1", "ann@example.com", "u" * 300, ""]),
        "metadata": st.sampled_from([{"user_id": "u-2"}, {"a": "b"}, None]),
        "service_tier": st.sampled_from(["auto", "default", "flex"]),
        "cache_control": st.sampled_from([MARK["cache_control"], HOUR["cache_control"], None]),
        "seed": st.integers(),
        "n": st.just(1),
    },
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, ThinkingRecord]:
    """Kept thinking for some ids, which fits the turn that it goes back to or not."""
    found = {}
    for call_id in draw(st.lists(ids, max_size=3, unique=True)):
        pieces = st.sampled_from(
            [thinking("Hm.", proof="abc"), redacted_thinking(data="xyz"), {"type": "text", "chars": 2}, {"type": "text", "chars": 0}]
        )
        blocks = [thinking("So.", proof="abc"), *draw(st.lists(pieces, max_size=3))]
        blocks.insert(draw(st.integers(1, len(blocks))), {"type": "tool_use", "id": call_id})
        found[call_id] = ThinkingRecord((call_id,), tuple(blocks))
    return found


continuations = st.sampled_from(
    [None, None, None, Continuation((answered("So far"), server_tool_use(), web_search_result()), {"output_tokens": 5})]
)
conversations = st.builds(
    lambda turns, fields: {"messages": turns, **fields},
    st.lists(messages, min_size=1, max_size=4) | st.lists(messages, min_size=5, max_size=12),
    parameters,
)

# JSON gone wrong.

junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), words),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words | st.sampled_from(["type", "text", "content", "id", "index"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def spoilt(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    """A value some part of which is something else, is missing, or is there twice."""
    document = copy.deepcopy(draw(values))
    for _ in range(draw(st.integers(1, 3))):
        _spoil(draw, document)
    return document


def _spoil(draw: st.DrawFn, node: Any) -> None:
    while isinstance(node, dict | list) and node:
        keys = sorted(node) if isinstance(node, dict) else range(len(node))
        key = draw(st.sampled_from(keys))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 3)) == 0:
            _change(draw, node, key)
            return
        node = inner


def _change(draw: st.DrawFn, node: Any, key: Any) -> None:
    match draw(st.sampled_from(["replace", "replace", "remove", "repeat"])):
        case "remove":
            del node[key]
        case "repeat" if isinstance(node, list):
            node.insert(draw(st.integers(0, len(node))), copy.deepcopy(node[key]))
        case _:
            node[key] = draw(junk)


# Answers.

inputs = st.dictionaries(
    words.filter(lambda word: "\ud83d" not in word),
    st.none() | st.integers(-5, 5) | st.text(max_size=9) | st.just([{"a": 1.5}]),
    max_size=3,
)
answers = st.lists(
    st.one_of(
        st.builds(answered, st.text(max_size=40)),
        st.builds(lambda word: answered(word, [web_citation()]), st.text(max_size=20)),
        st.builds(lambda word, proof: thinking(word, proof=proof), st.text(max_size=20), st.sampled_from(["", "abc"])),
        st.just(redacted_thinking(data="xyz")),
        st.builds(tool_use, names, inputs, ids.filter(bool)),
        st.just(server_tool_use()),
        st.just(web_search_result()),
        st.just({"type": "hologram", "rays": [1]}),
    ),
    max_size=6,
)
stop_reasons = st.sampled_from(["end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded", "tool_use", "refusal", "tired"])


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The bytes in pieces, cut anywhere."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
