"""The imitation's rules: bodies that the real API takes pass, and each rule refuses the body that breaks it."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import ResponseInputItemParam, ToolParam
from openai.types.responses.response_create_params import ToolChoice
from openai.types.shared_params import Reasoning

from tests.cases.adapters import adapter
from tests.fakes.responses_models import facts_of
from tests.fakes.responses_rules import chat_violations, forgotten_reasoning, violations
from tests.fakes.responses_sealing import sealed

ACCOUNT, SOL, OLD, PLAIN = "sk-ours", "gpt-6.1-sol", "gpt-5.4", "gpt-4.1"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n....").decode()
USER, SAID = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": False}
LOOSE = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOL = {"type": "function", "name": "read", "description": "Reads a file.", "parameters": LOOSE, "strict": False}
PATCH = {
    "type": "custom",
    "name": "patch",
    "description": "Patches.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "s: A"},
}
MARK = {"prompt_cache_breakpoint": {"mode": "explicit"}}


def body(*items: Any, model: str = SOL, **fields: Any) -> dict[str, Any]:
    return {"model": model, "input": list(items or (USER,)), **fields}


def call(call_id: str = "call_1", **rest: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "read", "arguments": "{}", **rest}


def output(call_id: str = "call_1", told: Any = "ok", **rest: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": told, **rest}


def custom(call_id: str = "call_9") -> dict[str, Any]:
    return {"type": "custom_tool_call", "call_id": call_id, "name": "patch", "input": "*** Begin"}


def thought(item_id: str = "rs_1", *, account: str = ACCOUNT, model: str = SOL, **rest: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": item_id, "summary": [], "encrypted_content": sealed(account, model, item_id, "Hm."), **rest}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def words(text: str = "Hello", **rest: Any) -> dict[str, Any]:
    return {"type": "input_text", "text": text, **rest}


def image(url: str = f"data:image/png;base64,{PNG}", **rest: Any) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, "detail": "auto", **rest}


def said(*parts: Any, **rest: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts), **rest}


def structured(schema: Any, *, strict: bool = True, **fields: Any) -> dict[str, Any]:
    return body(text={"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": strict}}, **fields)


def prop(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}


OUTPUT_TEXT = {"type": "output_text", "text": "Hi.", "annotations": []}
GOOD = {
    "a string": {"model": SOL, "input": "Hello"},
    "messages of each role": body({"role": "developer", "content": "Be brief."}, USER, SAID, {"role": "system", "content": "a"}, USER),
    "parts of each kind": body(
        user(words(), image(), {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="})
    ),
    "images elsewhere": body(user(image("https://a/b.png"), {"type": "input_image", "file_id": "file_1", "detail": "original"})),
    "a whole tool round": body(USER, thought(), call(), call("call_2"), output("call_2"), output(), SAID, USER, tools=[TOOL]),
    "results with parts": body(USER, call(), output(told=[words(), image()]), tools=[TOOL]),
    "freeform calls": body(
        USER, custom(), {"type": "custom_tool_call_output", "call_id": "call_9", "output": "Done."}, tools=[TOOL, PATCH]
    ),
    "reasoning before words": body(USER, thought(), said(OUTPUT_TEXT), USER),
    "reasoning twice": body(USER, thought(), thought("rs_2"), call(), output(), tools=[TOOL]),
    "reasoning without an id": body(
        USER, {name: value for name, value in thought().items() if name != "id"}, call(), output(), tools=[TOOL]
    ),
    "a refusal in the history": body(USER, said({"type": "refusal", "refusal": "No."}), USER),
    "an answer as it was given": body(USER, said(OUTPUT_TEXT, id="msg_1", status="completed", phase="final_answer"), USER),
    "tools in the input": body({"type": "additional_tools", "role": "developer", "tools": [TOOL]}, USER, tool_choice="required"),
    "a namespace": body(tools=[{"type": "namespace", "name": "ns", "description": "d", "tools": [TOOL]}]),
    "hosted tools": body(tools=[{"type": "web_search", "external_web_access": True}]),
    "a strict tool": body(tools=[{**TOOL, "parameters": SCHEMA, "strict": True}]),
    "a tool that says nothing of strictness": body(tools=[{"type": "function", "name": "read", "parameters": LOOSE}]),
    "a chosen tool": body(tools=[TOOL], tool_choice={"type": "function", "name": "read"}),
    "allowed tools": body(
        tools=[TOOL], tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "read"}]}
    ),
    "structure": structured(SCHEMA),
    "loose structure": structured(LOOSE, strict=False),
    "JSON by name": body({"role": "user", "content": "Answer in JSON."}, text={"format": {"type": "json_object"}, "verbosity": "low"}),
    "reasoning, sealed": body(reasoning={"effort": "xhigh", "summary": "auto"}, store=False, include=["reasoning.encrypted_content"]),
    "breakpoints": body(user(words(**MARK)), prompt_cache_options={"mode": "explicit", "ttl": "12h"}),
    "a breakpoint in a result": body(USER, call(), output(told=[words(**MARK)]), tools=[TOOL]),
    "sampling without reasoning": body(model=PLAIN, temperature=0.2, top_p=0.5),
    "sampling where the effort is none": body(reasoning={"effort": "none"}, temperature=0.2),
    "default sampling": body(temperature=1, top_p=1.0),
    "all the rest": body(
        max_output_tokens=16,
        metadata={"a": "b"},
        parallel_tool_calls=False,
        prompt_cache_key="ses_1",
        safety_identifier="u",
        service_tier="flex",
        stream=True,
        stream_options={"include_obfuscation": False},
        truncation="disabled",
        user="u",
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
    for tool in good.get("tools", ()):
        yield ToolParam, {"strict": None, **tool} if tool["type"] == "function" else tool
    items = good["input"] if isinstance(good["input"], list) else ()
    for item in items:
        if item.get("type") == "reasoning":
            item = {"id": "rs_0", **item}
        if item.get("role") == "assistant" and isinstance(item["content"], list):
            item = {"id": "msg_0", "status": "completed", **item}
        yield ResponseInputItemParam, item
    if "tool_choice" in good:
        yield ToolChoice, good["tool_choice"]
    if "reasoning" in good:
        yield Reasoning, good["reasoning"]


# What is sent -> how the first sentence about it begins (an ellipsis stands for anything between), and its code.
BAD: list[tuple[dict[str, Any], str, str | None]] = [
    # fields
    ({"input": "Hi"}, "Missing required parameter: 'model'.", "missing_required_parameter"),
    ({"model": SOL}, "Missing required parameter: 'input'.", "missing_required_parameter"),
    (body(n=2), "Unknown parameter: 'n'.", "unknown_parameter"),
    (body(stop=["a"]), "Unknown parameter: 'stop'.", "unknown_parameter"),
    (body(max_tokens=9), "Unsupported parameter: 'max_tokens'...has moved to 'max_output_tokens'", "unsupported_parameter"),
    (body(reasoning_effort="low"), "Unsupported parameter: 'reasoning_effort'...has moved to 'reasoning.effort'", "unsupported_parameter"),
    (body(response_format={}), "Unsupported parameter: 'response_format'...'text.format'", "unsupported_parameter"),
    (body({**USER, "name": "Ann"}), "Unknown parameter: 'input[0].name'.", "unknown_parameter"),
    (body(user(words(cache_control={}))), "Unknown parameter: 'input[0].content[0].cache_control'.", "unknown_parameter"),
    (body(tools=[{**TOOL, "function": {}}]), "Unknown parameter: 'tools[0].function'.", "unknown_parameter"),
    (body(stream_options={"include_usage": True}), "Unknown parameter: 'stream_options.include_usage'.", "unknown_parameter"),
    (body({"role": "user"}), "Missing required parameter: 'input[0].content'.", "missing_required_parameter"),
    (body({"role": "user", "content": None}), "Invalid type for 'input[0].content': expected one of an array of objects", "invalid_type"),
    (body(user({"text": "a"})), "Missing required parameter: 'input[0].content[0].type'.", "missing_required_parameter"),
    (
        body(user({"type": "text", "text": "a"})),
        "Invalid value: 'text'. Supported values are: 'input_text', 'input_image', and 'input_file'.",
        "invalid_value",
    ),
    (
        body({"role": "assistant", "content": [words()]}),
        "Invalid value: 'input_text'. Supported values are: 'output_text'",
        "invalid_value",
    ),
    (body({"role": "tool", "content": "a"}), "Invalid value: 'tool'. Supported values are: 'assistant'", "invalid_value"),
    (body({"type": "tool_result", "id": "a"}), "Invalid value: 'tool_result'. Supported values are: 'message'", "invalid_value"),
    (body("Hello"), "Invalid type for 'input[0]': expected an object, but got a string instead.", "invalid_type"),
    (body(user("Hello")), "Invalid type for 'input[0].content[0]': expected an object", "invalid_type"),
    (body(user(words(None))), "Invalid type for 'input[0].content[0].text': expected a string, but got null instead.", "invalid_type"),
    ({"model": SOL, "input": 3}, "Invalid type for 'input': expected one of an array of objects or string", "invalid_type"),
    (body(tools={}), "Invalid type for 'tools': expected an array, but got an object", "invalid_type"),
    (body(stream="yes"), "Invalid type for 'stream': expected a boolean", "invalid_type"),
    (
        body(max_output_tokens=15),
        "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16",
        "integer_below_min_value",
    ),
    (body(max_output_tokens=20.5), "Invalid type for 'max_output_tokens': expected an integer, but got a decimal", "invalid_type"),
    (body(top_logprobs=21, model=PLAIN), "Invalid 'top_logprobs': integer above maximum value.", "integer_above_max_value"),
    (body(temperature=3, model=PLAIN), "Invalid 'temperature': decimal above maximum value.", "decimal_above_max_value"),
    (body(top_p=-1, model=PLAIN), "Invalid 'top_p': decimal below minimum value.", "decimal_below_min_value"),
    (body(temperature="hot", model=PLAIN), "Invalid type for 'temperature': expected a decimal", "invalid_type"),
    (body(include=["reasoning.content"]), "Invalid value: 'reasoning.content'. Supported values are:", "invalid_value"),
    (body(service_tier=3), "Invalid type for 'service_tier': expected one of 'auto'", "invalid_type"),
    (body(prompt_cache_key="a" * 65), "Invalid 'prompt_cache_key': string too long...maximum length 64", "string_above_max_length"),
    (body(metadata={str(number): "" for number in range(17)}), "Invalid 'metadata': too many properties.", "object_above_max_properties"),
    (body(metadata={"a": 1}), "Invalid type for 'metadata.a': expected a string", "invalid_type"),
    (body(USER, call("")), "Invalid 'input[1].call_id': empty string.", "empty_string"),
    (body(USER, call("a" * 65), output("a" * 65)), "Invalid 'input[1].call_id': string too long.", "string_above_max_length"),
    (body(USER, call(name="a b"), output()), "Invalid 'input[1].name': string does not match pattern.", "invalid_value"),
    (body(USER, call(name=3), output()), "Invalid type for 'input[1].name': expected a string", "invalid_type"),
    (body(USER, call(id="call_1"), output()), "Invalid 'input[1].id': 'call_1'. Expected an ID that begins with 'fc'.", "invalid_value"),
    (body(user(image("data:image/tiff;base64,AAAA"))), "Invalid 'input[0].content[0].image_url'. Expected a valid URL", "invalid_value"),
    (body(user(image("data:image/png;base64,?"))), "Invalid 'input[0].content[0].image_url'...invalid base64", "invalid_base64"),
    (body(user(image(3))), "Invalid type for 'input[0].content[0].image_url'", "invalid_type"),  # wrong on purpose
    (body(user({"type": "input_image"})), "Invalid 'input[0].content[0]': exactly one source", "invalid_value"),
    (
        body(user({"type": "input_file", "filename": "a", "file_data": "JVBERg=="})),
        "Invalid 'input[0].content[0].file_data'. Expected a base64-encoded data URL with a MIME type",
        "invalid_value",
    ),
    (
        body(user({"type": "input_file", "filename": "a", "file_data": "data:a/b;base64,?"})),
        "Invalid 'input[0].content[0].file_data'...invalid base64",
        "invalid_base64",
    ),
    (
        body(user({"type": "input_file", "filename": "a", "file_data": 3})),
        "Invalid type for 'input[0].content[0].file_data'",
        "invalid_type",
    ),
    (
        body(user({"type": "input_file", "file_data": "data:a/b;base64,AAAA"})),
        "Missing required parameter: 'input[0].content[0].filename'.",
        "missing_required_parameter",
    ),
    # calls and their outputs
    (body(USER, output()), "No tool call found for function call output with call_id call_1.", None),
    (body(USER, output(), call()), "No tool call found for function call output with call_id call_1.", None),
    (body(USER, call(), output(), output()), "No tool call found for function call output with call_id call_1.", None),
    (body(USER, call()), "No tool output found for function call call_1.", None),
    (body(USER, call(), call(), output()), "Duplicate tool call found with call_id call_1.", None),
    (body(USER, custom(), output("call_9")), "No tool call found for function call output with call_id call_9.", None),
    # reasoning
    (
        body(USER, thought(encrypted_content="abc"), call(), output()),
        "The encrypted content for item rs_1 could not be verified. Reason: Encrypted content could not be decrypted",
        "invalid_encrypted_content",
    ),
    (body(USER, thought(account="sk-theirs"), SAID), "...organization_id did not match", "invalid_encrypted_content"),
    (body(USER, thought(model=OLD), SAID), "...created by another model", "invalid_encrypted_content"),
    (body(USER, thought("rs_2", encrypted_content=thought()["encrypted_content"]), SAID), "...decrypted", "invalid_encrypted_content"),
    (body(USER, thought(encrypted_content=None), SAID), "Item with id 'rs_1' not found. Items are not persisted", None),
    (body(USER, thought()), "Item 'rs_1' of type 'reasoning' was provided without its required following item.", None),
    (body(USER, thought(), USER), "Item 'rs_1' of type 'reasoning' was provided without its required following item.", None),
    (body(USER, {"type": "item_reference", "id": "rs_1"}), "Item with id 'rs_1' not found.", None),
    (body(previous_response_id="resp_1"), "Previous response with id 'resp_1' not found.", "previous_response_not_found"),
    # tools and structure
    (body(tools=[{**TOOL, "strict": True}]), "Invalid schema for function 'read': In context=(), 'addi", "invalid_function_parameters"),
    (body(tools=[{**TOOL, "parameters": {}}]), "Invalid schema for function 'read': schema must be", "invalid_function_parameters"),
    (body(tools=[{**TOOL, "parameters": prop({"type": "array"})}]), "...array schema missing items.", "invalid_function_parameters"),
    (body(tools=[TOOL, TOOL]), "Duplicate tool name: 'read'.", "invalid_value"),
    (body(tools=[TOOL], tool_choice={"type": "function", "name": "write"}), "Tool choice 'function' not found in 'tools'", "invalid_value"),
    (body(tool_choice="required"), "Tool choice 'required' must be specified with 'tools' parameter.", None),
    (body(tools=[TOOL], tool_choice="any"), "Invalid value: 'any'. Supported values are:", "invalid_value"),
    (structured(LOOSE), "Invalid schema for response_format 'answer'...'additionalProperties'", "invalid_json_schema"),
    (structured({**SCHEMA, "required": []}), "...Missing 'path'.", "invalid_json_schema"),
    (structured({"anyOf": [], "type": "object"}), "...at the top level.", "invalid_json_schema"),
    (structured(prop({"oneOf": [{"type": "string"}]})), "...'oneOf' is not permitted.", "invalid_json_schema"),
    (structured(prop({})), "...schema must have a 'type' key.", "invalid_json_schema"),
    (structured(prop("string")), "...schema must be an object or a boolean.", "invalid_json_schema"),
    (body(text={"format": {"type": "json_object"}}), "Response input messages must contain the word 'json'", None),
    # what a model takes
    (
        body(reasoning={"effort": "minimal"}),
        "Unsupported value: 'minimal' is not supported with the 'gpt-6.1-sol' model.",
        "unsupported_value",
    ),
    (body(model=PLAIN, reasoning={"effort": "low"}), "Unsupported parameter: 'reasoning.effort'", "unsupported_parameter"),
    (body(model=PLAIN, include=["reasoning.encrypted_content"]), "Encrypted content is not supported with this model.", None),
    (body(temperature=0.2), "Unsupported parameter: 'temperature' is not supported with this model.", "unsupported_parameter"),
    (body(model="o3", top_p=0.2), "Unsupported parameter: 'top_p' is not supported with this model.", "unsupported_parameter"),
    (body(stream_options={}), "The 'stream_options' parameter is only allowed when 'stream' is enabled.", None),
    (body(user(words(**MARK)), model=OLD), "Unsupported parameter: 'prompt_cache_breakpoint'", "unsupported_parameter"),
    (body(model=OLD, prompt_cache_options={"ttl": "30m"}), "Unsupported parameter: 'prompt_cache_options'", "unsupported_parameter"),
    (body(prompt_cache_retention="in_memory"), "Unsupported value: 'in_memory'", "unsupported_value"),
]


@pytest.mark.parametrize(("bad", "begins", "code"), BAD, ids=[begins for _, begins, _ in BAD])
def test_a_bad_body_is_refused_in_the_apis_words(bad: dict[str, Any], begins: str, code: str | None) -> None:
    before = copy.deepcopy(bad)
    problem = violations(bad)[0]
    first, *rest = begins.split("...")
    assert problem.words.startswith(first)
    assert all(part in problem.words for part in rest)
    assert problem.code == code
    assert bad == before


def test_a_schema_has_a_deepest_level() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(12):
        schema = prop(schema)
    assert "nested deeper" in violations(structured(schema))[0].words


def test_an_item_that_came_with_reasoning_needs_it_when_it_is_named() -> None:
    asked = body(USER, call(id="fc_1"), output(), tools=[TOOL])
    assert violations(asked) == []
    refused = violations(asked, needs={"fc_1": "rs_1"})
    assert refused[0].words == "Item 'fc_1' of type 'function_call' was provided without its required 'reasoning' item: 'rs_1'."
    assert violations(body(USER, thought(), call(id="fc_1"), output(), tools=[TOOL]), needs={"fc_1": "rs_1"}) == []


def test_reasoning_of_the_turn_that_goes_on_is_missed_when_it_does_not_come_back() -> None:
    needs = {"call_1": "rs_1"}
    assert forgotten_reasoning(body(USER, call(), output()), needs) == ["call_1"]
    assert forgotten_reasoning(body(USER, thought(), call(), output()), needs) == []
    assert forgotten_reasoning(body(USER, call(), output(), SAID, USER), needs) == []


@pytest.mark.parametrize(
    ("model", "effort", "is_refused"),
    [
        (SOL, None, True),
        (SOL, "low", True),
        (SOL, "none", False),
        ("gpt-5.6-luna", None, True),
        ("gpt-6-astra", "none", True),
        (OLD, None, False),
        (OLD, "none", False),
        (OLD, "low", True),
        ("gpt-5", "low", False),
        (PLAIN, None, False),
        ("their-model", "low", False),
    ],
)
def test_chat_completions_refuses_tools_beside_reasoning(model: str, effort: str | None, is_refused: bool) -> None:
    tool = {"type": "function", "function": {"name": "read", "parameters": LOOSE}}
    problems = chat_violations({"model": model, "tools": [tool], "reasoning_effort": effort})
    assert bool(problems) == is_refused
    assert all("/v1/responses" in problem.words for problem in problems)
    assert chat_violations({"model": model, "reasoning_effort": effort}) == []


def test_models_that_reason_by_default_have_an_effort_that_they_take() -> None:
    for model in (SOL, OLD, "gpt-5", "o3", "gpt-6-astra", "gpt-5.1"):
        facts = facts_of(model)
        assert facts.default_effort in facts.efforts
