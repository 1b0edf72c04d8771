"""The Responses API's refusals: `violations(body)` tells every reason for which the real API would answer 400.

    assert violations(translated_body) == []

First the fields (`responses_shapes`), and only when those are right the schemas, the items' order, and what the model takes
(`responses_models`). `chat_violations` are those of Chat Completions that send a caller here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakes.responses_checks import Problem, either
from tests.fakes.responses_models import Facts, facts_of
from tests.fakes.responses_schemas import schema_problem
from tests.fakes.responses_sealing import seal_problem
from tests.fakes.responses_shapes import REQUEST

Item = dict[str, Any]

CALLS = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
OUTPUTS = {output: call for call, output in CALLS.items()}
WORDS = {"function_call_output": "function call output", "custom_tool_call_output": "custom tool call output"}
NOT_STORED = (
    "Item with id '{}' not found. Items are not persisted when `store` is set to false."
    " Try again with `store` set to true, or remove this item from your input."
)


def items_of(body: Mapping[str, Any]) -> list[Item]:
    """The input as items; a string is one message of the user."""
    given = body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def kind_of(item: Item) -> str:
    return str(item.get("type", "message"))


def tools_of(body: Mapping[str, Any]) -> list[Item]:
    """The tools, those of namespaces and of `additional_tools` among them."""
    given = [
        *(body.get("tools") or ()),
        *(tool for item in items_of(body) if kind_of(item) == "additional_tools" for tool in item["tools"]),
    ]
    return [inner for tool in given for inner in (tool["tools"] if tool["type"] == "namespace" else (tool,))]


def effort_of(body: Mapping[str, Any], facts: Facts) -> str:
    return str((body.get("reasoning") or {}).get("effort") or facts.default_effort)


def violations(body: dict[str, Any], *, account: str = "sk-ours", needs: Mapping[str, str] | None = None) -> list[Problem]:
    """Every reason to refuse `body`, none when it's fine. `needs`: id of an item -> id of the reasoning that it followed from."""
    problems = list(REQUEST(body, ""))
    if problems:
        return problems
    facts = facts_of(body["model"])
    return [
        *_schemas(body),
        *_tool_choice(body),
        *_pairs(items_of(body)),
        *_reasoning(body, account, needs or {}),
        *_contents(items_of(body)),
        *_parameters(body, facts),
        *_cache(body, facts),
    ]


def _schemas(body: dict[str, Any]) -> Iterator[Problem]:
    for number, tool in enumerate(body.get("tools") or ()):
        if tool["type"] == "function" and tool.get("parameters") is not None:
            words = schema_problem(tool["parameters"], is_strict=bool(tool.get("strict")))
            if words:
                path = f"tools[{number}].parameters"
                yield Problem(f"Invalid schema for function '{tool['name']}': {words}", path, "invalid_function_parameters")
    names = Counter(tool["name"] for tool in tools_of(body) if "name" in tool)
    for name, count in names.items():
        if count > 1:
            yield Problem(f"Duplicate tool name: '{name}'.", "tools", "invalid_value")
    wanted = (body.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        words = schema_problem(wanted["schema"], is_strict=bool(wanted.get("strict")))
        if words:
            yield Problem(f"Invalid schema for response_format '{wanted['name']}': {words}", "text.format.schema", "invalid_json_schema")
    if wanted.get("type") == "json_object" and "json" not in str(body["input"]).lower():
        yield Problem(
            "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.", "input"
        )


def _tool_choice(body: dict[str, Any]) -> Iterator[Problem]:
    choice = body.get("tool_choice", "auto")
    names = {(tool["type"], tool.get("name")) for tool in tools_of(body)}
    if isinstance(choice, str):
        if choice not in {"auto", "none", "required"}:
            yield Problem(
                f"Invalid value: '{choice}'. Supported values are: {either(('none', 'auto', 'required'))}.", "tool_choice", "invalid_value"
            )
        elif choice == "required" and not names:
            yield Problem("Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice")
        return
    for wanted in choice["tools"] if choice["type"] == "allowed_tools" else (choice,):
        if (wanted["type"], wanted.get("name")) not in names:
            yield Problem(f"Tool choice '{wanted['type']}' not found in 'tools' parameter.", "tool_choice", "invalid_value")


def _pairs(items: list[Item]) -> Iterator[Problem]:
    """Each call has one output after it, each output a call before it."""
    open_calls: dict[tuple[str, str], None] = {}
    seen = Counter((kind_of(item), item["call_id"]) for item in items if kind_of(item) in CALLS)
    for (_, call_id), count in seen.items():
        if count > 1:
            yield Problem(f"Duplicate tool call found with call_id {call_id}.", "input")
    for item in items:
        kind = kind_of(item)
        if kind in CALLS:
            open_calls[CALLS[kind], item["call_id"]] = None
        elif kind in OUTPUTS:
            if (kind, item["call_id"]) not in open_calls:
                yield Problem(f"No tool call found for {WORDS[kind]} with call_id {item['call_id']}.", "input")
            open_calls.pop((kind, item["call_id"]), None)
    for _, call_id in open_calls:
        yield Problem(f"No tool output found for function call {call_id}.", "input")


def _reasoning(body: dict[str, Any], account: str, needs: Mapping[str, str]) -> Iterator[Problem]:
    items = items_of(body)
    ids = [item.get("id") for item in items if kind_of(item) == "reasoning"]
    for number, item in enumerate(items):
        kind = kind_of(item)
        if kind == "item_reference":
            yield Problem(NOT_STORED.format(item["id"]), "input", None, 404)
        if kind == "reasoning":
            if item.get("encrypted_content") is not None:
                problem = seal_problem(item, account, body["model"])
                yield from (problem,) if problem else ()
            elif item.get("id"):
                yield Problem(NOT_STORED.format(item["id"]), "input", None, 404)
            follower = items[number + 1] if number + 1 < len(items) else None
            if follower is None or not _is_theirs(follower):
                name = item.get("id") or f"at index {number}"
                yield Problem(f"Item '{name}' of type 'reasoning' was provided without its required following item.", "input")
        elif needs.get(item.get("id", "")) not in (None, *ids):
            yield Problem(
                f"Item '{item['id']}' of type '{kind}' was provided without its required 'reasoning' item: '{needs[item['id']]}'.", "input"
            )


def _is_theirs(item: Item) -> bool:
    kind = kind_of(item)
    return kind in CALLS or kind == "reasoning" or (kind == "message" and item["role"] == "assistant")


def _contents(items: list[Item]) -> Iterator[Problem]:
    for number, item in enumerate(items):
        content = item.get("content") if kind_of(item) == "message" else item.get("output")
        for place, part in enumerate(content if isinstance(content, list) else ()):
            path = f"input[{number}].{'content' if kind_of(item) == 'message' else 'output'}[{place}]"
            sources = [part.get(name) for name in ("image_url", "file_id", "file_url", "file_data")]
            if part["type"] in {"input_image", "input_file"} and sum(source is not None for source in sources) != 1:
                yield Problem(f"Invalid '{path}': exactly one source of the content must be given.", path, "invalid_value")
            if part["type"] == "input_file" and part.get("file_data") and not part.get("filename"):
                yield Problem(f"Missing required parameter: '{path}.filename'.", f"{path}.filename", "missing_required_parameter")


def _parameters(body: dict[str, Any], facts: Facts) -> Iterator[Problem]:
    effort = effort_of(body, facts)
    if facts.efforts and effort not in facts.efforts:
        yield Problem(
            f"Unsupported value: '{effort}' is not supported with the '{body['model']}' model."
            f" Supported values are: {either(facts.efforts)}.",
            "reasoning.effort",
            "unsupported_value",
        )
    for name in ("effort", "summary"):
        if not facts.efforts and (body.get("reasoning") or {}).get(name) is not None:
            yield _unsupported(f"reasoning.{name}")
    if not facts.efforts and "reasoning.encrypted_content" in (body.get("include") or ()):
        yield Problem("Encrypted content is not supported with this model.", "include")
    is_reasoning = bool(facts.efforts) and not (facts.samples_without_effort and effort == "none")
    for name in ("temperature", "top_p", "top_logprobs"):
        if is_reasoning and body.get(name) is not None and (name == "top_logprobs" or body[name] != 1):
            yield _unsupported(name)
    if body.get("stream_options") is not None and not body.get("stream"):
        yield Problem("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if body.get("previous_response_id"):
        yield Problem(
            f"Previous response with id '{body['previous_response_id']}' not found.", "previous_response_id", "previous_response_not_found"
        )


def _unsupported(name: str) -> Problem:
    return Problem(f"Unsupported parameter: '{name}' is not supported with this model.", name, "unsupported_parameter")


def _cache(body: dict[str, Any], facts: Facts) -> Iterator[Problem]:
    """Breakpoints came with GPT-5.6, and took the place of the time to live by name."""
    if facts.has_breakpoints:
        if body.get("prompt_cache_retention") == "in_memory":
            yield Problem("Unsupported value: 'in_memory' is not supported with this model.", "prompt_cache_retention", "unsupported_value")
        return
    if "prompt_cache_options" in body:
        yield _unsupported("prompt_cache_options")
    if any(marked_parts(item) for item in items_of(body)):
        yield _unsupported("prompt_cache_breakpoint")


def marked_parts(item: Item) -> list[int]:
    """The places of an item's parts with a breakpoint."""
    content = item.get("content") if kind_of(item) == "message" else item.get("output")
    return [place for place, part in enumerate(content if isinstance(content, list) else ()) if part.get("prompt_cache_breakpoint")]


def forgotten_reasoning(body: dict[str, Any], needs: Mapping[str, str]) -> list[str]:
    """The calls of the turn that goes on whose reasoning didn't come back: the real API takes that, and thinks worse (R31)."""
    items = items_of(body)
    start = max((number for number, item in enumerate(items) if kind_of(item) == "message" and item["role"] == "user"), default=0)
    ids = {item.get("id") for item in items if kind_of(item) == "reasoning"}
    return [item["call_id"] for item in items[start:] if kind_of(item) in CALLS and needs.get(item["call_id"], None) not in (None, *ids)]


def chat_violations(body: Mapping[str, Any]) -> list[Problem]:
    """Why Chat Completions takes no function tools for a model beside reasoning (R30)."""
    facts = facts_of(str(body.get("model")))
    has_tools = any(isinstance(tool, dict) and tool.get("type") == "function" for tool in body.get("tools") or ())
    effort = body.get("reasoning_effort")
    if not has_tools or facts.chat_tools == "always" or (facts.chat_tools == "unnamed" and effort in (None, "none")):
        return []
    if facts.chat_tools == "never":
        return [Problem(f"Function tools are not supported for {body['model']} in /v1/chat/completions. Use /v1/responses.", "tools")]
    if facts.chat_tools == "none" and effort == "none":
        return []
    return [
        Problem(
            f"Function tools with reasoning_effort are not supported for {body['model']} in /v1/chat/completions."
            " To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
            "reasoning_effort",
        )
    ]
