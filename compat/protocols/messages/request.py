"""The upstream's half of Anthropic's Messages API for requests.

    turns         roles, tool results, orphans, system messages in the middle, thinking put back
    content       blocks
    tools         tools and the choice among them
    parameters    limits, sampling, structure (schema), thinking
    cache         breakpoints

One pass and one serialisation of each part. What a model takes is data of the catalog; no name is compared. The request is never changed:
every block is new, arguments of tool calls keep their bytes. Whatever is changed on the way is noted. Rules are those of
docs/translation.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from compat import jsonio
from compat.protocols.base import AnswerMemory, TranslatedRequest, TranslationContext
from compat.protocols.messages.cache import CHARS_PER_TOKEN, plan_cache, strip_markers
from compat.protocols.messages.content import Block, mark_last, text_block
from compat.protocols.messages.parameters import Parameters, parameters_of
from compat.protocols.messages.thinking import lacks_thinking, opener
from compat.protocols.messages.tools import Toolbox, toolbox_of
from compat.protocols.messages.turns import Conversation, tool_call_ids, write_turns
from compat.protocols.messages.words import carried_blocks
from compat.protocols.notes import Notes
from compat.protocols.refusals import as_learnt
from compat.protocols.request import Request

_DIGEST_BYTES = 8
_LONG_BYTES = 4 * 1024 * 1024


def write_request(request: Request, ctx: TranslationContext) -> TranslatedRequest:
    """The body for this upstream (see `UpstreamProtocol.request`). Errors: `BadRequest`, `Unsupported`."""
    notes = Notes()
    if ctx.refused_parameters:
        facts = as_learnt(ctx.model.messages, ctx.refused_parameters)
        ctx = replace(ctx, model=msgspec.structs.replace(ctx.model, messages=facts))
    parameters, conversation, toolbox = _read(request, ctx, notes, may_think=True)
    if parameters.thinking.is_enabled and lacks_thinking(_turns(conversation, ctx)):
        # The API refuses thinking with a budget in a turn whose own thinking is lost (rule 7).
        notes = Notes()
        notes.add("thinking", "off(lost)")
        parameters, conversation, toolbox = _read(request, ctx, notes, may_think=False)
    if request.was_repaired:
        notes.add("repaired", "surrogates")
    tools, choice, system = list(toolbox.tools), toolbox.choice, list(conversation.system)
    structure = parameters.structure
    if structure.tool is not None:
        tools, choice = [*tools, structure.tool], {"type": "tool", "name": structure.tool["name"]}
    if structure.instruction:
        system.append(text_block(structure.instruction))
    mark_last(conversation.messages[-1]["content"], request.cache)
    turns = _turns(conversation, ctx)
    if "cache_control" in ctx.refused_parameters:
        if strip_markers(tools, system, turns):
            notes.add("dropped", "cache_control")
    elif request.has_marks or request.size_bytes >= ctx.model.messages.cache_minimum * CHARS_PER_TOKEN:
        plan_cache(tools, system, turns, cache_minimum=ctx.model.messages.cache_minimum, size_chars=request.size_bytes)
    document: Block = {"model": ctx.target, **parameters.fields}
    if choice is not None and "tool_choice" in ctx.refused_parameters:
        notes.add("dropped", request.name("choice"))
    elif choice is not None:
        document["tool_choice"] = choice
    if ctx.is_stream:
        document["stream"] = True
    parts = {"tools": tools, "system": system, "messages": turns}
    encode = jsonio.encode_in_steps if request.size_bytes > _LONG_BYTES else jsonio.encode
    document |= {name: [msgspec.Raw(encode(item)) for item in items] for name, items in parts.items() if items}
    memory = AnswerMemory(toolbox.client_names, structure.tool["name"] if structure.tool is not None else "")
    return TranslatedRequest(jsonio.encode(document), parameters.headers, notes.told(), memory, tuple(_segments(document, parts)))


def _read(request: Request, ctx: TranslationContext, notes: Notes, *, may_think: bool) -> tuple[Parameters, Conversation, Toolbox]:
    facts = ctx.model.messages
    parameters = parameters_of(request, ctx, notes, may_think=may_think)
    is_restoring = parameters.thinking.is_on and "messages.thinking" not in ctx.refused_parameters
    ids = tool_call_ids(request.turns) if is_restoring else []
    conversation = write_turns(
        request.turns,
        ctx.find_thinking(ids) if ids else {},
        notes,
        system_in_middle=facts.system_in_middle and "messages.role" not in ctx.refused_parameters,
        prefill=facts.prefill and not parameters.refuses_prefill and "messages.prefill" not in ctx.refused_parameters,
        restores=request.shapes,
        unsealed=opener(ctx) if is_restoring else None,
    )
    if not (request.tools or request.choice or conversation.tool_names):
        return parameters, conversation, Toolbox()
    is_enabled, used_names = parameters.thinking.is_enabled, conversation.tool_names
    return parameters, conversation, toolbox_of(request, facts, notes, is_thinking_enabled=is_enabled, used_names=used_names)


def _turns(conversation: Conversation, ctx: TranslationContext) -> list[Block]:
    """The messages, with what the model said before it paused (rule 17)."""
    carried = carried_blocks(ctx.continuation.blocks) if ctx.continuation is not None else []
    return [*conversation.messages, *([{"role": "assistant", "content": carried}] if carried else [])]


def _segments(document: Mapping[str, Any], parts: Mapping[str, Sequence[Any]]) -> list[tuple[str, bytes]]:
    """Digests of the prompt's parts in the cache's order: tools, system, each message; markers aside (rule 27)."""
    segments = []
    for name in ("tools", "system"):
        if parts[name]:
            text = b"".join(_unmarked(raw, item) for raw, item in zip(document[name], parts[name], strict=True))
            segments.append((name, _digest(text)))
    for number, (raw, message) in enumerate(zip(document["messages"], parts["messages"], strict=True)):
        segments.append((f"messages[{number}]", _digest(_unmarked(raw, message))))
    return segments


def _unmarked(raw: msgspec.Raw, item: Any) -> bytes:
    """The item's text without its markers; the text as it stands where it has none."""
    text = bytes(raw)
    if b'"cache_control":' not in text:
        return text
    content = item.get("content")
    if isinstance(content, list):
        return jsonio.encode({**item, "content": [_bare(block) for block in content]})
    return jsonio.encode(_bare(item))


def _bare(block: Any) -> Any:
    return {key: value for key, value in block.items() if key != "cache_control"} if isinstance(block, dict) else block


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
