"""The imitation's rules: bodies that the real API takes pass, and each rule refuses the body that breaks it."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import ContentBlockParam, OutputConfigParam, ThinkingConfigParam, ToolChoiceParam, ToolUnionParam

from compat.config.catalog import MessagesFacts
from tests.cases.adapters import adapter
from tests.fakes.anthropic_rules import violations
from tests.fakes.anthropic_shapes import BINDING_BETA

SONNET, OPUS, OLD, NEWEST = "claude-sonnet-4-6", "claude-opus-4-8", "claude-sonnet-4-5", "claude-fable-5-1"
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
PNG, PDF = (base64.b64encode(data).decode() for data in (b"\x89PNG\r\n\x1a\n....", b"%PDF-1.7"))
USER, SAID = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}
TOOL = {"name": "read", "description": "Reads a file.", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "a"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
BUDGET = {"type": "enabled", "budget_tokens": 1024}


def text(words: str = "Hello", **rest: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **rest}


def call(call_id: str = "toolu_1", **rest: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "read", "input": {}, **rest}


def result(call_id: str = "toolu_1", **rest: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "ok", **rest}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def said(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def system(words: str = "Be brief.") -> dict[str, Any]:
    return {"role": "system", "content": words}


def body(*messages: Any, model: str = SONNET, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 2048, "messages": list(messages or (USER,)), **fields}


def image(media_type: str = "image/png", data: str = PNG, **source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source or {"type": "base64", "media_type": media_type, "data": data}}


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "source": source}


def structured(schema: Any, model: str = SONNET) -> dict[str, Any]:
    return body(model=model, output_config={"format": {"type": "json_schema", "schema": schema}})


def tooled(model: str = SONNET, **fields: Any) -> dict[str, Any]:
    return body(model=model, tools=[TOOL], **fields)


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def prop(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "additionalProperties": False}


GOOD = {
    "a string": body(),
    "blocks": body(user(text(), text("again"))),
    "two user turns in a row": body(USER, USER),
    "a whole tool round": tooled(
        messages=[USER, said(text(), call(), call("toolu_2")), user(result("toolu_2"), result(), text()), SAID, USER]
    ),
    "results of every kind": tooled(
        messages=[USER, said(call()), user(result(content=[text(), image(), document(type="url", url="http://a/b")]))]
    ),
    "an empty result": tooled(messages=[USER, said(call()), user(without(result(), "content"))]),
    "a failed call": tooled(messages=[USER, said(call()), user(result(is_error=True, content=[text("no")]))]),
    "system as a string": body(system="Be brief."),
    "system as blocks": body(system=[text("Be"), text("brief.", **MARK)]),
    "a system message at the end": body(USER, system(), model=OPUS),
    "a system message after results": tooled(OPUS, messages=[USER, said(call()), user(result()), system(), SAID, USER]),
    "an image": body(user(image(), text())),
    "an image by address": body(user(image(type="url", url="https://a/b.png"))),
    "documents": body(
        user(
            document(type="base64", media_type="application/pdf", data=PDF),
            document(type="text", media_type="text/plain", data="a"),
            document(type="url", url="https://a/b.pdf") | {"title": "b", "citations": {"enabled": True}},
        )
    ),
    "four marks": body(user(text(**MARK)), tools=[{**TOOL, **HOUR}], system=[text(**HOUR), text(**MARK)]),
    "a mark on the request": body(cache_control={"type": "ephemeral"}),
    "a mark inside of a result": tooled(messages=[USER, said(call(**MARK)), user(result(content=[text(**MARK)]))]),
    "temperature": body(temperature=0.2, top_k=5),
    "top_p": body(top_p=0.2),
    "sampling beside thinking": body(thinking=BUDGET, top_p=0.95),
    "default sampling where none is taken": body(model=OPUS, temperature=1, top_p=1.0),
    "adaptive thinking": body(model=OPUS, thinking={"type": "adaptive", "display": "summarized"}, output_config={"effort": "xhigh"}),
    "a budget": body(model=OLD, thinking=BUDGET, temperature=1),
    "no thinking": body(model="claude-opus-5", thinking={"type": "disabled"}),
    "thinking in the open turn": tooled(OLD, thinking=BUDGET, messages=[USER, said(THOUGHT, call()), user(result())]),
    "one thought for a long turn": tooled(
        OLD, thinking=BUDGET, messages=[USER, said(THOUGHT, call()), user(result()), said(call("b")), user(result("b"))]
    ),
    "a past turn without thinking": tooled(OLD, thinking=BUDGET, messages=[USER, said(call()), user(result()), SAID, USER]),
    "redacted thinking": tooled(
        OLD, thinking=BUDGET, messages=[USER, said({"type": "redacted_thinking", "data": "x"}, call()), user(result())]
    ),
    "adaptive thinking that was lost": tooled(SONNET, thinking={"type": "adaptive"}, messages=[USER, said(call()), user(result())]),
    "tool choices": tooled(tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
    "no tool": tooled(tool_choice={"type": "none"}),
    "a forced tool": tooled(tool_choice={"type": "tool", "name": "read"}),
    "a forced tool beside adaptive thinking": tooled(tool_choice={"type": "any"}, thinking={"type": "adaptive"}),
    "a server's tool": body(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]),
    "a server's tool at work": body(USER, said(SEARCH, FOUND, text("Sunny.")), USER),
    "a paused turn": body(USER, said(text(), SEARCH)),
    "a schema": structured({**SCHEMA, "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"enum": ["x", None]}}}),
    "lists in a schema": structured(prop({"type": ["array", "null"], "items": {"type": "string", "format": "date"}, "minItems": 1})),
    "a strict tool": body(tools=[{**TOOL, "input_schema": SCHEMA, "strict": True}]),
    "a prefill": body(USER, said(text("It is")), model=OLD),
    "an empty prefill": body(USER, said(), model=OLD),
    "all the rest": body(
        stop_sequences=["\n\nHuman:", "END"], metadata={"user_id": "u-1"}, service_tier="standard_only", stream=True, inference_geo=None
    ),
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_a_good_body_is_taken_and_not_changed(good: dict[str, Any]) -> None:
    before = copy.deepcopy(good)
    assert violations(good) == []
    assert good == before


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_the_parts_of_a_good_body_are_what_the_sdk_sends(good: dict[str, Any]) -> None:
    for kind, value in parts_of(good):
        adapter(kind).validate_python(value)


def parts_of(good: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    yield from ((ToolUnionParam, tool) for tool in good.get("tools", ()))
    yield from (
        (ContentBlockParam, block) for message in good["messages"] if isinstance(message["content"], list) for block in message["content"]
    )
    shapes = {"thinking": ThinkingConfigParam, "tool_choice": ToolChoiceParam, "output_config": OutputConfigParam}
    yield from ((shape, good[name]) for name, shape in shapes.items() if name in good)


# What is sent -> how the first sentence about it begins (an ellipsis stands for anything between).
BAD: list[tuple[dict[str, Any], str]] = [
    # fields
    (body(frequency_penalty=1), "frequency_penalty: Extra inputs are not permitted"),
    (body({**USER, "name": "Ann"}), "messages.0.name: Extra inputs are not permitted"),
    (body(user(text(cache=1))), "messages.0.content.0.text.cache: Extra inputs are not permitted"),
    (body(tools=[{**TOOL, "parameters": {}}]), "tools.0.custom.parameters: Extra inputs are not permitted"),
    (without(body(), "max_tokens"), "max_tokens: Field required"),
    (without(body(), "messages"), "messages: Field required"),
    (without(body(), "model"), "model: Field required"),
    (body({"role": "user"}), "messages.0.content: Field required"),
    (body(user({"text": "a"})), "messages.0.content.0.type: Field required"),
    (body(user({"type": "input_text", "text": "a"})), "messages.0.content.0: Input tag 'input_text' found using 'type' does not match"),
    (body(user("a")), "messages.0.content.0: Input should be a valid dictionary"),
    (body({"role": "user", "content": None}), "messages.0.content: Input should be a valid list"),
    (body(user(text(None))), "messages.0.content.0.text.text: Input should be a valid string"),
    (body(stream="yes"), "stream: Input should be a valid boolean"),
    (body(max_tokens="9"), "max_tokens: Input should be a valid integer"),
    (body(max_tokens=0), "max_tokens: Input should be greater than or equal to 1"),
    (body(max_tokens=128_001), "max_tokens: 128001 > 128000, which is the maximum allowed number of output tokens for claude-sonnet-4-6"),
    (body(system=[image()]), "system.0: Input tag 'image' found"),
    (body(metadata={"user": "a"}), "metadata.user: Extra inputs are not permitted"),
    (body(metadata={"user_id": "ann@example.com"}), "metadata.user_id: user_id appears to contain an email address"),
    (body(metadata={"user_id": "a" * 257}), "metadata.user_id: String should have at most 256 characters"),
    (body(service_tier="flex"), "service_tier: Input should be 'auto' or 'standard_only'"),
    (body(stop_sequences=["\n"]), "stop_sequences: each stop sequence must contain non-whitespace"),
    (body(stop_sequences="END"), "stop_sequences: Input should be a valid list"),
    # the order of messages
    ({**body(), "messages": []}, "messages: at least one message is required"),
    (body({"role": "tool", "content": "a"}), 'messages: Unexpected role "tool"'),
    (body(SAID, USER), 'messages: first message must use the "user" role'),
    (body(USER, system()), "messages.1: role 'system' is not supported on this model"),
    (body(system(), USER, model=OPUS), "messages.0: use the top-level 'system' parameter"),
    (body(USER, SAID, system(), model=OPUS), "messages.2: a 'system' message must follow a 'user' message"),
    (body(USER, system(), system(), model=OPUS), "messages.1: a 'system' message must be the last message or be followed by"),
    (body(USER, system(), system(), model=OPUS), "messages.2: consecutive 'system' messages are not allowed"),
    (body(USER, system(), USER, model=OPUS), "messages.1: a 'system' message must be the last message or be followed by"),
    (tooled(OPUS, messages=[USER, said(call()), system(), user(result())]), "messages.2: a 'system' message must follow"),
    (body(USER, {"role": "assistant", "content": ""}, USER), "messages.1: all messages must have non-empty content except"),
    (body(user()), "messages.0: all messages must have non-empty content except"),
    (body(USER, said()), "messages.1: all messages must have non-empty content except"),
    (body(user(text(), text(""))), "messages.0.content.1: text content blocks must be non-empty"),
    (body({"role": "user", "content": " \n"}), "messages.0.content.0: text content blocks must contain non-whitespace text"),
    (body(system=[text("")]), "system.0: text content blocks must be non-empty"),
    (
        tooled(messages=[USER, said(call()), user(result(content=[text("")]))]),
        "messages.2.content.0.content.0: text content blocks must be",
    ),
    (body(USER, said(text("It is ")), model=OLD), "messages: final assistant content cannot end with trailing whitespace"),
    (body(USER, SAID), "This model does not support assistant message prefill."),
    (body(USER, said(text(), THOUGHT), USER), "messages.1: The final block in an assistant message cannot be `thinking`."),
    (body(user(call())), "messages.0: `tool_use` blocks can only be in `assistant` messages"),
    (body(USER, said(image()), USER), "messages.1: `image` blocks can only be in `user` messages"),
    # tools in the conversation
    (body(USER, said(call()), USER), "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1."),
    (body(USER, said(call(), call("b")), user(result("b"))), "messages.1: `tool_use` ids were found without...after: toolu_1."),
    (body(USER, said(call()), user(text(), result())), "messages.1: `tool_use` ids were found without"),
    (body(USER, said(call())), "messages.1: `tool_use` ids were found without"),
    (body(USER, said(call(), call("b")), user(result()), user(result("b"))), "messages.1: `tool_use` ids were found without...after: b."),
    (body(user(result())), "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1."),
    (body(USER, SAID, user(text(), result())), "messages.2.content.1: unexpected `tool_use_id` found in `tool_result` blocks"),
    (body(USER, said(call()), user(result(), result())), "messages.2.content: each tool_use must have a single result."),
    (body(USER, said(call(), call()), user(result())), "messages: `tool_use` ids must be unique: toolu_1"),
    (
        body(USER, said(call("a.b")), user(result("a.b"))),
        "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
    ),
    (body(USER, said(call(name="a b")), user(result())), "messages.1.content.0.tool_use.name: String should match pattern"),
    (body(USER, said(call(input="{}")), user(result())), "messages.1.content.0.tool_use.input: Input should be a valid dictionary"),
    (
        body(USER, said(call()), user(result(is_error=True, content=""))),
        "messages.2.content.0.tool_result: content cannot be empty if `is_error`",
    ),
    (
        body(USER, said(call()), user(result(is_error=True, content=[image()]))),
        "messages.2.content.0.tool_result: all content must be type `text`",
    ),
    (body(USER, said(FOUND), USER), "messages.1.content.0: unexpected `tool_use_id` found in `web_search_tool_result` blocks: srv_1."),
    (body(USER, said(SEARCH, text()), USER), "messages.1: server tool use with id srv_1 was found without"),
    # tools
    (body(tools=[{**TOOL, "name": "a b"}]), "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"),
    (body(tools=[{**TOOL, "name": "a" * 129}]), "tools.0.custom.name: String should match pattern"),
    (body(tools=[without(TOOL, "input_schema")]), "tools.0.custom.input_schema: Field required"),
    (body(tools=[{**TOOL, "input_schema": {}}]), "tools.0.custom.input_schema.type: Field required"),
    (body(tools=[{**TOOL, "input_schema": {"type": "array"}}]), "tools.0.custom.input_schema.type: Input should be 'object'"),
    (body(tools=[TOOL, TOOL]), "tools: Tool names must be unique."),
    (body(tools=[{**TOOL, "strict": True}]), "tools.0.custom: For 'object' type, 'additionalProperties' must be"),
    (body(tools=[{**TOOL, "strict": True}], model="claude-opus-4-1"), "tools.0.custom: 'claude-opus-4-1' does not support strict tools."),
    (body(tool_choice={"type": "auto"}), "tool_choice: tool_choice may only be specified while providing tools."),
    (tooled(tool_choice={"type": "tool", "name": "write"}), "tool_choice: Tool 'write' not found in provided tools"),
    (tooled(tool_choice={"type": "tool"}), "tool_choice.tool.name: Field required"),
    (tooled(tool_choice={"type": "none", "disable_parallel_tool_use": True}), "tool_choice.none.disable_parallel_tool_use: Extra inputs"),
    (tooled(tool_choice="auto"), "tool_choice: Input should be a valid dictionary"),
    (tooled(tool_choice={"type": "required"}), "tool_choice: Input tag 'required' found"),
    (tooled(tool_choice={"type": "any"}, thinking=BUDGET), "Thinking may not be enabled when tool_choice forces tool use."),
    (tooled(NEWEST, tool_choice={"type": "any"}), 'tool_choice: type "tool" and "any" are not supported for this model.'),
    # thinking
    (body(model=OPUS, thinking=BUDGET), '"thinking.type.enabled" is not supported for this model.'),
    (body(model=OLD, thinking={"type": "adaptive"}), "adaptive thinking is not supported on this model"),
    (body(model="claude-3-haiku", thinking=BUDGET), '"thinking.type.enabled" is not supported for this model.'),
    (body(model=NEWEST, thinking={"type": "disabled"}), '"thinking.type.disabled" is not supported for this model.'),
    (body(thinking={"type": "auto"}), "thinking: Input tag 'auto' found"),
    (body(thinking={"type": "enabled"}), "thinking.enabled.budget_tokens: Field required"),
    (body(thinking={"type": "adaptive", "budget_tokens": 2000}), "thinking.adaptive.budget_tokens: Extra inputs are not permitted"),
    (
        body(thinking={"type": "enabled", "budget_tokens": 1023}),
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    ),
    (body(thinking={"type": "enabled", "budget_tokens": 2048}), "`max_tokens` must be greater than `thinking.budget_tokens`."),
    (body(thinking={"type": "adaptive", "display": "full"}), "thinking.adaptive.display: Input should be 'summarized' or 'omitted'"),
    (
        body(model=NEWEST, thinking={"type": "adaptive", "block_binding": {}}),
        "thinking.adaptive.block_binding: Extra inputs are not permitted",
    ),
    (
        tooled(OLD, thinking=BUDGET, messages=[USER, said(call()), user(result())]),
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
    ),
    (
        tooled(OLD, thinking=BUDGET, messages=[USER, said(text(), call()), user(result()), said(THOUGHT, call("b")), user(result("b"))]),
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.",
    ),
    (body(USER, SAID, model=OLD, thinking=BUDGET), "messages.1.content.0.type: Expected `thinking`"),
    (body(USER, said({**THOUGHT, "signature": ""}, text()), USER), "messages.1.content.0.thinking.signature: String should have"),
    (body(USER, said(without(THOUGHT, "signature"), text()), USER), "messages.1.content.0.thinking.signature: Field required"),
    # sampling
    (body(temperature=1.1), "temperature: range: 0..1"),
    (body(top_p=-0.1), "top_p: range: 0..1"),
    (body(temperature=0.5, top_p=0.9), "`temperature` and `top_p` cannot both be specified for this model."),
    (body(model=OPUS, temperature=0.5), "`temperature` is deprecated for this model."),
    (body(model=OPUS, top_p=0.99), "`top_p` is deprecated for this model."),
    (body(model=OPUS, top_k=40), "`top_k` is deprecated for this model."),
    (body(thinking=BUDGET, temperature=0), "`temperature` may only be set to 1 when thinking is enabled."),
    (body(thinking={"type": "adaptive"}, top_p=0.9), "`top_p` must be greater than or equal to 0.95"),
    (body(thinking=BUDGET, top_k=40), "`top_k` must be unset when thinking is enabled."),
    # effort and structure
    (body(output_config={"effort": "minimal"}), "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"),
    (
        body(output_config={"effort": "xhigh"}),
        "This model does not support effort level 'xhigh'. Supported levels: high, low, max, medium.",
    ),
    (body(model=OLD, output_config={"effort": "low"}), "This model does not support the effort parameter."),
    (body(output_config={"schema": {}}), "output_config.schema: Extra inputs are not permitted"),
    (structured(SCHEMA, "claude-opus-4-1"), "output_config.format: 'claude-opus-4-1' does not support output format."),
    (structured(without(SCHEMA, "additionalProperties")), "output_config.format.schema: For 'object' type, 'additionalProperties' must be"),
    (structured(prop({"type": "object"})), "output_config.format.schema: For 'object' type, 'additionalProperties' must be"),
    (structured(prop({"type": "string", "minLength": 1})), "output_config.format.schema: For 'string' type, property 'minLength' is not"),
    (structured(prop({"type": "string", "maxLength": 1})), "output_config.format.schema: For 'string' type, property 'maxLength' is not"),
    (structured(prop({"type": "integer", "minimum": 1})), "output_config.format.schema: For 'integer' type, property 'minimum' is not"),
    (structured(prop({"type": "number", "maximum": 1})), "output_config.format.schema: For 'number' type, property 'maximum' is not"),
    (structured(prop({"type": "array", "items": {}, "minItems": 2})), "output_config.format.schema: For 'array' type, 'minItems' values"),
    (
        structured(prop({"anyOf": [{"type": "string", "format": "regex"}]})),
        "output_config.format.schema: For 'string' type, format 'regex'",
    ),
    (structured(prop({"oneOf": [{"type": "null"}]})), "output_config.format.schema: Schema type 'oneOf' is not supported"),
    (structured(prop({"$ref": "#"})), "output_config.format.schema: Circular reference detected"),
    (structured({**prop({"$ref": "#/$defs/a"}), "$defs": {"a": prop({"$ref": "#/$defs/a"})}}), "...Circular reference detected"),
    (structured(prop({"$ref": "https://a/b"})), "output_config.format.schema: External reference 'https://a/b' is not supported"),
    # the cache
    (
        body(user(*[text(**MARK)] * 3), tools=[{**TOOL, **MARK}], system=[text(**MARK)]),
        "A maximum of 4 blocks with cache_control...Found 5.",
    ),
    (body(user(*[text(**MARK)] * 4), cache_control={"type": "ephemeral"}), "A maximum of 4 blocks with cache_control...Found 5."),
    (
        body(user(text(**HOUR)), system=[text(**MARK)]),
        "messages.0.content.0.cache_control.ttl: a ttl='1h' cache_control block must not come",
    ),
    (body(user(text(cache_control={"type": "ephemeral", "ttl": "2h"}))), "messages.0...ttl: Input should be '5m' or '1h'"),
    (body(user(text(cache_control={"type": "permanent"}))), "messages.0.content.0.text.cache_control: Input tag 'permanent' found"),
    (body(USER, said({**THOUGHT, **MARK}, text()), USER), "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted"),
    (body(user(text(""), text("", **MARK))), "...cache_control cannot be set for empty text blocks"),
    # images and documents
    (body(user(image("image/bmp"))), "messages.0.content.0.image.source.base64.media_type: Input should be 'image/png'"),
    (
        body(user(image("image/jpeg"))),
        "messages.0...data: The image was specified using the image/jpeg media type, but the image appears to be",
    ),
    (body(user(image(data="%%%"))), "messages.0.content.0.image.source.base64.data: Invalid base64 data"),
    (body(user(image(data="AAAA"))), "messages.0.content.0.image.source.base64.data: Could not process image"),
    (body(user(image(type="url", url="data:image/png;base64,AA"))), "messages.0.content.0.image.source.url.url: Only HTTP(S) URLs"),
    (body(user(document(type="base64", media_type="application/pdf", data=PNG))), "messages.0...data: The PDF specified was not valid"),
    (body(user(document(type="text", media_type="text/html", data="a"))), "messages.0...media_type: Input should be 'text/plain'"),
]


@pytest.mark.parametrize(("bad", "begins"), BAD, ids=[begins[:70] for _, begins in BAD])
def test_a_body_that_breaks_a_rule_is_refused_in_the_apis_words(bad: dict[str, Any], begins: str) -> None:
    told = violations(bad)
    start, _, rest = begins.partition("...")
    assert any(problem.startswith(start) and rest in problem for problem in told), told


def test_every_reason_is_told_not_only_the_first() -> None:
    assert len(violations(body(model=OPUS, temperature=0, top_k=3, output_config={"effort": "max"}, tool_choice={"type": "any"}))) == 3


def test_the_facts_of_another_model_may_be_given() -> None:
    asked = body(USER, SAID)
    assert violations(asked, model_id=OLD) == []
    assert violations(asked, facts=MessagesFacts(prefill=True)) == []


def test_the_binding_of_thinking_can_be_set_with_its_beta_only() -> None:
    asked = body(model=NEWEST, thinking={"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}})
    assert violations(asked)
    assert violations(asked, betas=[BINDING_BETA]) == []


@pytest.mark.parametrize(
    ("beta", "change"),
    [
        ("thinking-display-updates-2026-08-18", {"thinking": {"type": "adaptive", "display": "updates"}}),
        ("context-management-2025-06-27", {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}),
        (
            "per-turn-control-2026-07-01",
            {
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {"role": "system", "content": "Note.", "output_config": {"effort": "low"}},
                ]
            },
        ),
    ],
)
def test_what_a_beta_brings_is_refused_without_its_header(beta: str, change: dict[str, Any]) -> None:
    body = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **change}
    assert violations(body)
    assert violations(body, betas=[beta]) == []
