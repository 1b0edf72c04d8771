"""The Messages API's refusals: `violations(body)` tells every reason for which the real API would answer 400.

    assert violations(translated_body) == []

It goes as the API does: first the fields (`anthropic_shapes`), and only when those are right the conversation
(`anthropic_conversation`) and what the model takes (here, from the catalogue). The texts are the API's own where a refusal was seen in
public, and begin with the path of the culprit. What differs by model: thinking, effort, sampling, prefill, forced tools, structured
output, system messages in the middle, and the most tokens of an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import msgspec

from compat.config.catalog import Catalog, MessagesFacts, Model, load_catalog
from tests.fakes.anthropic_conversation import conversation_violations, walk
from tests.fakes.anthropic_schemas import schema_violations
from tests.fakes.anthropic_shapes import SYSTEM_BETAS, request

MAX_MARKS = 4


@cache
def catalog() -> Catalog:
    return load_catalog()


def model_of(model_id: str) -> Model:
    return catalog().model_of("anthropic", model_id)


def violations(
    body: dict[str, Any], model_id: str | None = None, facts: MessagesFacts | None = None, betas: Collection[str] = ()
) -> list[str]:
    """Every reason to refuse `body`, none when it's fine.

    `model_id` is the model to judge by (the body's own by default), `facts` replace what the catalog knows of it, `betas` are the values
    of the request's `anthropic-beta` header.
    """
    problems = [*request(betas)(body, "")]
    if problems:
        return problems
    model = model_of(model_id or body["model"])
    facts = facts or model.messages
    if not SYSTEM_BETAS.isdisjoint(betas):  # where Claude Code sends one of these, it sends such messages as well
        facts = msgspec.structs.replace(facts, system_in_middle=True)
    return [
        *_max_tokens(body, model),
        *conversation_violations(body, facts),
        *_tools(body, facts),
        *_tool_choice(body, facts),
        *_thinking(body, facts),
        *_sampling(body, facts),
        *_output_config(body, facts),
        *_cache_control(body),
    ]


def _max_tokens(body: dict[str, Any], model: Model) -> Iterator[str]:
    asked = body["max_tokens"]
    if asked > model.max_output:
        yield f"max_tokens: {asked} > {model.max_output}, which is the maximum allowed number of output tokens for {body['model']}"


def _tools(body: dict[str, Any], facts: MessagesFacts) -> Iterator[str]:
    tools = body.get("tools", [])
    if any(count > 1 for count in Counter(tool["name"] for tool in tools).values()):
        yield "tools: Tool names must be unique."
    for number, tool in enumerate(tools):
        if tool.get("strict"):
            if facts.structured_output:
                yield from schema_violations(tool["input_schema"], f"tools.{number}.custom")
            else:
                yield f"tools.{number}.custom: '{body['model']}' does not support strict tools."


def _tool_choice(body: dict[str, Any], facts: MessagesFacts) -> Iterator[str]:
    choice = body.get("tool_choice")
    if choice is None:
        return
    tools = body.get("tools", [])
    if not tools:
        yield "tool_choice: tool_choice may only be specified while providing tools."
    elif choice["type"] == "tool" and choice["name"] not in [tool["name"] for tool in tools]:
        yield f"tool_choice: Tool '{choice['name']}' not found in provided tools"
    if choice["type"] not in {"any", "tool"}:
        return
    if facts.forced_tools == "never":
        yield 'tool_choice: type "tool" and "any" are not supported for this model.'
    elif facts.forced_tools == "unless_enabled" and body.get("thinking", {}).get("type") == "enabled":
        yield "Thinking may not be enabled when tool_choice forces tool use."


def _thinking(body: dict[str, Any], facts: MessagesFacts) -> Iterator[str]:
    config = body.get("thinking")
    if config is None:
        return
    kind = config["type"]
    if kind == "disabled":
        if facts.thinking_default == "always":
            yield '"thinking.type.disabled" is not supported for this model.'
    elif facts.thinking == "none":
        yield f'"thinking.type.{kind}" is not supported for this model.'
    elif kind == "enabled" and facts.thinking == "adaptive":
        yield (
            '"thinking.type.enabled" is not supported for this model.'
            ' Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
        )
    elif kind == "adaptive" and facts.thinking == "enabled":
        yield "adaptive thinking is not supported on this model"
    if kind == "enabled" and config["budget_tokens"] >= body["max_tokens"]:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`."


def _sampling(body: dict[str, Any], facts: MessagesFacts) -> Iterator[str]:
    """Ones are the defaults of temperature and top_p; top_k has none that could be named."""
    asked = {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body}
    if facts.sampling == "none":
        yield from (f"`{name}` is deprecated for this model." for name, value in asked.items() if name == "top_k" or value != 1)
        return
    if facts.sampling == "one" and {"temperature", "top_p"} <= asked.keys():
        yield "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    if body.get("thinking", {}).get("type") in {"enabled", "adaptive"}:
        if asked.get("temperature", 1) != 1:
            yield "`temperature` may only be set to 1 when thinking is enabled."
        if asked.get("top_p", 1) < 0.95:
            yield "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled."
        if "top_k" in asked:
            yield "`top_k` must be unset when thinking is enabled."


def _output_config(body: dict[str, Any], facts: MessagesFacts) -> Iterator[str]:
    config = body.get("output_config", {})
    effort = config.get("effort")
    if effort is not None and not facts.efforts:
        yield "This model does not support the effort parameter."
    elif effort is not None and effort not in facts.efforts:
        yield f"This model does not support effort level '{effort}'. Supported levels: {', '.join(sorted(facts.efforts))}."
    if config.get("format") is not None:
        if facts.structured_output:
            yield from schema_violations(config["format"]["schema"], "output_config.format.schema")
        else:
            yield f"output_config.format: '{body['model']}' does not support output format."


def _cache_control(body: dict[str, Any]) -> Iterator[str]:
    """At most four marks, the longer-lived ones first. The one on the request itself stands for the last block."""
    marks: list[tuple[str, dict[str, Any]]] = []
    for path, block in walk(body):
        mark = block.get("cache_control")
        if mark is not None:
            marks.append((path, mark))
            if block.get("type") == "text" and not block["text"].strip():
                yield f"{path}.text: cache_control cannot be set for empty text blocks"
    if body.get("cache_control") is not None:
        marks.append(("cache_control", body["cache_control"]))
    if len(marks) > MAX_MARKS:
        yield f"A maximum of {MAX_MARKS} blocks with cache_control may be provided. Found {len(marks)}."
    has_short = False
    for path, mark in marks:
        if mark.get("ttl") == "1h" and has_short:
            yield (
                f"{path}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block."
                " Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
        has_short = has_short or mark.get("ttl", "5m") == "5m"
