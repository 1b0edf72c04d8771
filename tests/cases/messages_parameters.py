"""Requests and their parameters: limits, sampling, stop sequences, structure, identity, the unknown (rules 10, 11, 21, 23, 24, 26)."""

from __future__ import annotations

import json
from typing import Any

from tests.cases.messages import (
    ABSENT,
    HELLO,
    NEWEST,
    OLD,
    OLDEST,
    OPUS,
    OPUS5,
    ROUND,
    SONNET,
    TOOL_SENT,
    TOOLS,
    RefusedRow,
    RequestRow,
    chat,
    system,
    text,
)
from tests.cases.messages_thinking import BETA

SONNET4 = "claude-sonnet-4-20250514"


def sampled(
    says: str, fields: dict[str, Any], kept: dict[str, Any], notes: tuple[str, ...] = (), model: str = SONNET, refused: tuple[str, ...] = ()
) -> RequestRow:
    holds = dict.fromkeys(("temperature", "top_p", "top_k"), ABSENT) | kept
    return RequestRow((10,) if not refused else (10, 11), says, chat(**fields), holds, notes, model, refused=frozenset(refused))


SAMPLING = [
    sampled("a temperature is kept", {"temperature": 0.2}, {"temperature": 0.2}),
    sampled("a temperature of nothing too", {"temperature": 0}, {"temperature": 0}),
    sampled("one above the scale is clamped to its default", {"temperature": 1.7}, {}, ("clamped=temperature",)),
    sampled("defaults say nothing", {"temperature": 1, "top_p": 1.0}, {}),
    sampled("temperature goes before top_p", {"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2}, ("dropped=top_p",)),
    sampled("top_p alone is kept", {"temperature": 1, "top_p": 0.5}, {"top_p": 0.5}),
    sampled(
        "both are kept where both are taken",
        {"temperature": 0.2, "top_p": 0.5, "top_k": 5.0},
        {"temperature": 0.2, "top_p": 0.5, "top_k": 5},
        model=SONNET4,
    ),
    sampled(
        "none is kept where none is taken",
        {"temperature": 0.2, "top_p": 0.5, "top_k": 5},
        {},
        ("dropped=temperature", "dropped=top_p", "dropped=top_k"),
        OPUS,
    ),
    sampled("defaults say nothing there either", {"temperature": 1, "top_p": 1}, {}, (), OPUS),
    sampled(
        "nothing beside thinking",
        {"temperature": 0.2, "top_p": 0.5, "top_k": 5, "reasoning_effort": "low"},
        {},
        ("dropped=temperature", "dropped=top_p", "dropped=top_k"),
    ),
    sampled("but a wide top_p", {"top_p": 0.95, "reasoning_effort": "low"}, {"top_p": 0.95}),
    sampled("a top_k of less than nothing is none", {"top_k": -1}, {}, ("dropped=top_k",)),
    sampled(
        "what the deployment refused is dropped",
        {"temperature": 0.2, "top_p": 0.5},
        {"top_p": 0.5},
        ("dropped=temperature",),
        SONNET,
        ("temperature",),
    ),
    sampled("null is nothing", {"temperature": None, "top_p": None, "top_k": None}, {}),
]

LIMITS = [
    RequestRow((21,), "the model's own limit where none is named", chat(), {"max_tokens": 128_000}),
    RequestRow((21,), "also for another model", chat(), {"max_tokens": 128_000}, model=OPUS),
    RequestRow((21,), "the old spelling", chat(max_tokens=100), {"max_tokens": 100}),
    RequestRow((21,), "the new spelling", chat(max_completion_tokens=100), {"max_tokens": 100}),
    RequestRow((21,), "the new one counts beside the old one", chat(max_completion_tokens=100, max_tokens=200), {"max_tokens": 100}),
    RequestRow((21,), "null is none", chat(max_completion_tokens=None, max_tokens=200.0), {"max_tokens": 200}),
    RequestRow((21,), "more than there is becomes the most", chat(max_tokens=10**6), {"max_tokens": 128_000}, ("clamped=max_tokens",)),
]

STOP = [
    RequestRow((24,), "a string", chat(stop="END"), {"stop_sequences": ["END"]}),
    RequestRow((24,), "a list", chat(stop=["A", "B"]), {"stop_sequences": ["A", "B"]}),
    RequestRow((24,), "whitespace alone is dropped", chat(stop=["\n", "A", ""]), {"stop_sequences": ["A"]}, ("dropped=stop(whitespace)",)),
    RequestRow((24,), "nothing is left of nothing", chat(stop="\n\n"), {"stop_sequences": ABSENT}, ("dropped=stop(whitespace)",)),
    RequestRow((24,), "null and none", chat(stop=None), {"stop_sequences": ABSENT}),
    RequestRow((24,), "an empty list is none", chat(stop=[]), {"stop_sequences": ABSENT}),
]

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
TREE = {"type": "object", "properties": {"child": {"$ref": "#"}}}
MAP = {"type": "object", "additionalProperties": {"type": "integer"}}


def schema(value: Any, **rest: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": value}}, **rest}


def told(value: Any) -> str:
    words = json.dumps(value, separators=(",", ":"))
    return f"Answer with JSON that fits this schema and nothing else, without a code fence:\n{words}"


INSTEAD = ("response_format=instruction",)
NATIVE = {"type": "json_schema", "schema": SCHEMA}
ANSWER = {"name": "answer_as_json", "description": "Gives the final answer.", "input_schema": SCHEMA}
STRUCTURE = [
    RequestRow((23,), "a schema is a format", chat(**schema(SCHEMA)), {"output_config": {"format": NATIVE}, "tools": ABSENT}),
    RequestRow(
        (23,),
        "an open object is closed",
        chat(**schema({"type": "object", "properties": {"a": {"type": "string"}}})),
        {"output_config.format.schema": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}},
    ),
    RequestRow(
        (23,),
        "limits become words",
        chat(**schema({**SCHEMA, "properties": {"name": {"type": "string", "minLength": 2, "description": "A name."}}})),
        {"output_config.format.schema.properties.name": {"type": "string", "description": 'A name. {"minLength":2}'}},
    ),
    RequestRow(
        (23, 9),
        "a format and an effort go together",
        chat(reasoning_effort="low", **schema(SCHEMA)),
        {"output_config": {"effort": "low", "format": NATIVE}},
    ),
    RequestRow(
        (23,), "a format and tools go together", chat(tools=TOOLS, **schema(SCHEMA)), {"output_config.format": NATIVE, "tools": [TOOL_SENT]}
    ),
    RequestRow(
        (23,),
        "a model that has no formats is made to call a tool",
        chat(**schema(SCHEMA)),
        {"output_config": ABSENT, "tools": [ANSWER], "tool_choice": {"type": "tool", "name": "answer_as_json"}},
        ("response_format=tool",),
        SONNET4,
    ),
    RequestRow(
        (23, 4),
        "tools of the history are stood in for beside it",
        chat(*ROUND, **schema(SCHEMA)),
        {
            "tools": [{"name": "read", "input_schema": {"type": "object"}}, ANSWER],
            "tool_choice": {"type": "tool", "name": "answer_as_json"},
        },
        ("response_format=tool", "added=tools(1)"),
        SONNET4,
    ),
    RequestRow(
        (23,),
        "alternatives at the top of its schema are folded",
        chat(**schema({**SCHEMA, "anyOf": [{"properties": {"b": {}}}]})),
        {"tools.0.input_schema": {**SCHEMA, "properties": {"b": {}, "name": {"type": "string"}}}},
        ("simplified=response_format", "response_format=tool"),
        SONNET4,
    ),
    RequestRow(
        (23,),
        "beside tools it is told in words",
        chat(tools=TOOLS, **schema(SCHEMA)),
        {"system": [text(told(SCHEMA))], "tools": [TOOL_SENT]},
        INSTEAD,
        SONNET4,
    ),
    RequestRow(
        (23,), "beside a budget too", chat(reasoning_effort="low", **schema(SCHEMA)), {"system": [text(told(SCHEMA))]}, INSTEAD, SONNET4
    ),
    RequestRow(
        (23, 11),
        "and where the choice of a tool was refused",
        chat(**schema(SCHEMA)),
        {"system": [text(told(SCHEMA))], "tools": ABSENT},
        INSTEAD,
        SONNET4,
        refused=frozenset({"tool_choice"}),
    ),
    RequestRow(
        (23,),
        "a recursive schema is told in words where tools can't be forced",
        chat(system("A"), HELLO, **schema(TREE)),
        {"system": [text("A"), text(told(TREE))]},
        INSTEAD,
        NEWEST,
        headers=BETA,
    ),
    RequestRow(
        (23,),
        "a recursive schema is a tool's where they can",
        chat(**schema(TREE)),
        {"tools.0.input_schema": TREE, "output_config": ABSENT},
        ("response_format=tool",),
        OPUS,
    ),
    RequestRow(
        (23,),
        "an object of any keys can't be closed",
        chat(**schema(MAP)),
        {"tools.0.input_schema": MAP, "output_config": ABSENT},
        ("response_format=tool",),
    ),
    RequestRow(
        (23,),
        "no tool answers with a list",
        chat(**schema({"type": "array", "items": MAP})),
        {"system": [text(told({"type": "array", "items": MAP}))]},
        INSTEAD,
    ),
    RequestRow(
        (23, 11),
        "a refused format is a tool",
        chat(**schema(SCHEMA)),
        {"tools": [ANSWER], "output_config": ABSENT},
        ("response_format=tool",),
        refused=frozenset({"output_config.format"}),
    ),
    RequestRow(
        (23, 11),
        "so is one whose schema was refused",
        chat(**schema(SCHEMA)),
        {"tools": [ANSWER]},
        ("response_format=tool",),
        refused=frozenset({"output_config.format.schema"}),
    ),
    RequestRow(
        (23,),
        "an object without a schema is asked for in words",
        chat(response_format={"type": "json_object"}),
        {"system": [text("Answer with one JSON object and nothing else: no prose around it and no code fence.")]},
    ),
    RequestRow((23,), "text is text", chat(response_format={"type": "text"}), {"output_config": ABSENT, "system": ABSENT}),
    RequestRow((23,), "null too", chat(response_format=None), {"output_config": ABSENT, "system": ABSENT}),
]

IDENTITY = [
    RequestRow((26,), "a user is the metadata's", chat(user="u-1"), {"metadata": {"user_id": "u-1"}}),
    RequestRow(
        (26,),
        "the metadata's own goes first",
        chat(user="u-1", metadata={"user_id": "u-2", "run": 5}),
        {"metadata": {"user_id": "u-2"}},
        ("dropped=metadata.run",),
    ),
    RequestRow(
        (26,),
        "an address is made unreadable: the API refuses it",
        chat(user="ann@example.com"),
        {"metadata.user_id": "user-899c415bf7b6d93c"},
        ("hashed=user",),
    ),
    RequestRow(
        (26,),
        "so is what is too long, and two of them stay two",
        chat(user="u" * 300),
        {"metadata.user_id": "user-f7a8647a359327e2"},
        ("hashed=user",),
    ),
    RequestRow(
        (26,), "what is no name is told of", chat(user=5, metadata=["a"]), {"metadata": ABSENT}, ("dropped=metadata", "dropped=user")
    ),
    RequestRow((26,), "an empty name is none", chat(user="", metadata={}), {"metadata": ABSENT}),
    RequestRow(
        (26, 11),
        "refused metadata are told of",
        chat(user="u-1"),
        {"metadata": ABSENT},
        ("dropped=metadata",),
        refused=frozenset({"metadata"}),
    ),
    RequestRow((26,), "the tier", chat(service_tier="auto"), {"service_tier": "auto"}),
    RequestRow((26,), "the default tier", chat(service_tier="default"), {"service_tier": "standard_only"}),
    RequestRow((26,), "other tiers have no counterpart", chat(service_tier="flex"), {"service_tier": ABSENT}, ("dropped=service_tier",)),
    RequestRow((26,), "nor has what is no tier", chat(service_tier=["auto"]), {"service_tier": ABSENT}, ("dropped=service_tier",)),
    RequestRow(
        (26, 11),
        "a refused tier",
        chat(service_tier="auto"),
        {"service_tier": ABSENT},
        ("dropped=service_tier",),
        refused=frozenset({"service_tier"}),
    ),
]

UNKNOWN = [
    RequestRow(
        (26,),
        "what nobody knows is dropped and told of",
        chat(seed=5, frobnicate={"a": 1}, logit_bias={"5": 1}, verbosity="low", **{"x\r\ny": 1}),
        {"seed": ABSENT, "frobnicate": ABSENT},
        ("dropped=seed", "dropped=frobnicate", "dropped=logit_bias", "dropped=verbosity", "dropped=x__y"),
    ),
    RequestRow(
        (26,),
        "defaults and null are no loss",
        chat(
            frequency_penalty=0,
            presence_penalty=0.0,
            logprobs=False,
            logit_bias={},
            modalities=["text"],
            n=1,
            seed=None,
            verbosity="medium",
        ),
        {"n": ABSENT},
    ),
    RequestRow(
        (26,), "hints to another service are no loss", chat(store=True, promptCacheKey="a", safety_identifier="b"), {"store": ABSENT}
    ),
    RequestRow(
        (26,), "a stream is asked for by the caller", chat(stream=True, stream_options={"include_usage": True}), {"stream_options": ABSENT}
    ),
    RequestRow(
        (10, 26),
        "Kilo's request for a title",
        chat(max_tokens=32000, temperature=0.5, stream=True, stream_options={"include_usage": True}),
        {"max_tokens": 32000, "temperature": ABSENT},
        ("dropped=temperature",),
        OPUS5,
    ),
    RequestRow(
        (10, 26),
        "a model of old takes the most",
        chat(temperature=0.5, top_p=0.5, top_k=0),
        {"max_tokens": 8192, "temperature": 0.5, "top_p": 0.5, "top_k": 0},
        model=OLDEST,
    ),
]

REQUESTS = [*SAMPLING, *LIMITS, *STOP, *STRUCTURE, *IDENTITY, *UNKNOWN]


def wrong(rule: int, says: str, words: str, param: str, **fields: Any) -> RefusedRow:
    return RefusedRow((rule,), says, chat(**fields), words, param, OLD)


REFUSED = [
    wrong(26, "several answers are not possible", "one answer per call", "n", n=2),
    wrong(26, "nor is half of one", "one answer per call", "n", n="1"),
    wrong(10, "a temperature is a number", "must be a number", "temperature", temperature="hot"),
    wrong(10, "a truth is no number", "must be a number", "top_p", top_p=True),
    wrong(10, "a temperature is at most two", "between 0 and 2", "temperature", temperature=2.1),
    wrong(10, "a temperature is at least nothing", "between 0 and 2", "temperature", temperature=-0.1),
    wrong(10, "a top_p is at most one", "between 0 and 1", "top_p", top_p=1.1),
    wrong(10, "a top_p is at least nothing", "between 0 and 1", "top_p", top_p=-1),
    wrong(21, "a limit is at least one", "at least 1", "max_tokens", max_tokens=0),
    wrong(21, "a limit is whole", "whole number", "max_completion_tokens", max_completion_tokens=1.5),
    wrong(21, "a limit is a number", "must be a number", "max_tokens", max_tokens="100"),
    wrong(24, "a stop is text", "string or a list of strings", "stop", stop=5),
    wrong(24, "stops are texts", "string or a list of strings", "stop", stop=["a", None]),
    wrong(23, "a format is one of three", "must be of type text", "response_format", response_format={"type": "xml"}),
    wrong(23, "a format is an object", "must be of type text", "response_format", response_format="json"),
    wrong(23, "a format of an odd kind is none", "must be of type text", "response_format", response_format={"type": ["text"]}),
    wrong(23, "a schema has a name for it", "must be of type text", "response_format", response_format={"type": "json_schema"}),
    wrong(
        23,
        "a schema is an object",
        "schema' must be an object",
        "response_format",
        response_format={"type": "json_schema", "json_schema": {}},
    ),
]
