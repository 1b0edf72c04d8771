"""The upstream's half of OpenAI's Responses API for requests.

    turns         items: messages, calls and their outputs, reasoning put back
    content       parts of messages
    tools         tools and the choice among them
    parameters    everything else

The state of a conversation is the client's: nothing is stored at the service, and reasoning comes back sealed. The request is never
changed. Whatever is changed on the way is noted. Rules are those of docs/translation.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio
from compat.protocols.base import AnswerMemory, ThinkingRecord, TranslatedRequest, TranslationContext
from compat.protocols.notes import Notes
from compat.protocols.refusals import REASONING_ITEMS, SEARCH_MARK
from compat.protocols.request import Block, Hosted, Request, Thinking, Turn
from compat.protocols.responses.content import Part
from compat.protocols.responses.parameters import parameters_of, stop_of
from compat.protocols.responses.parts import API
from compat.protocols.responses.searches import SOURCES
from compat.protocols.responses.tools import toolbox_of
from compat.protocols.responses.turns import History, tool_call_ids, write_turns
from compat.protocols.responses.words import sealed_item

MAX_BREAKPOINTS = 3
"""Besides the one that the API makes itself, at the prompt's end."""
_MIN_CACHED_CHARS = 4096
_BREAKPOINT = {"mode": "explicit"}
_DIGEST_BYTES = 8
_LONG_BYTES = 4 * 1024 * 1024


def write_request(request: Request, ctx: TranslationContext) -> TranslatedRequest:
    """The body for this upstream (see `UpstreamProtocol.request`). Errors: `BadRequest`, `Unsupported`."""
    notes = Notes()
    fields = parameters_of(request, ctx, notes)
    stop = stop_of(request, notes)
    history = write_turns(_opened(request.turns, ctx), _records(request, ctx), notes)
    toolbox = toolbox_of(request, notes, ctx.refused_parameters)
    if any(isinstance(tool, Hosted) for tool in request.tools):
        fields |= _of_search(request, fields, ctx)
    if request.was_repaired:
        notes.add("repaired", "surrogates")
    if ctx.model.responses.breakpoints and "prompt_cache_breakpoint" not in ctx.refused_parameters:
        _mark(history, request)
    document: Part = {"model": ctx.target, **fields}
    if toolbox.choice is not None:
        document["tool_choice"] = toolbox.choice
    if request.parallel is not None and toolbox.tools:
        if "parallel_tool_calls" in ctx.refused_parameters:
            notes.add("dropped", request.name("parallel"))
        else:
            document["parallel_tool_calls"] = request.parallel
    if ctx.is_stream:
        document["stream"] = True
    encode = jsonio.encode_in_steps if request.size_bytes > _LONG_BYTES else jsonio.encode
    parts = {"tools": [encode(tool) for tool in toolbox.tools], "input": [encode(item) for item in history.items]}
    document |= {name: [msgspec.Raw(text) for text in texts] for name, texts in parts.items() if texts}
    memory = AnswerMemory(toolbox.client_names, stop=stop)
    return TranslatedRequest(jsonio.encode(document), {}, notes.told(), memory, tuple(_segments(parts, history.items)))


def _of_search(request: Request, fields: Part, ctx: TranslationContext) -> Part:
    """What a search that the service runs is bound by, and what is to be known of it."""
    search, refused = request.search, ctx.refused_parameters
    if search is None or SEARCH_MARK in refused:
        return {}
    bound = {"max_tool_calls": search.max_uses} if search.max_uses and "max_tool_calls" not in refused else {}
    return {**bound, **({"include": [*fields.get("include", ()), SOURCES]} if "include" not in refused else {})}


def _records(request: Request, ctx: TranslationContext) -> Mapping[str, ThinkingRecord]:
    """Reasoning that was kept for the calls of this history, as long as the upstream takes it."""
    ids = tool_call_ids(request.turns) if REASONING_ITEMS not in ctx.refused_parameters else []
    return ctx.find_thinking(ids) if ids else {}


def _opened(turns: Sequence[Turn], ctx: TranslationContext) -> Sequence[Turn]:
    """The turns with the reasoning that clients keep under a seal of ours, as long as it is this model's and the upstream takes it."""
    sealer = ctx.sealer
    if sealer is None or REASONING_ITEMS in ctx.refused_parameters:
        return turns

    def opened(block: Block) -> Block:
        sealed = sealer.own(block.seal, ctx.upstream_name, ctx.target) if isinstance(block, Thinking) else None
        item = sealed_item(sealed.value) if sealed is not None and sealed.origin == API else None
        return block if item is None else Thinking(block.where, origin=API, value=item)

    return [msgspec.structs.replace(turn, blocks=tuple(map(opened, turn.blocks))) if turn.role == "assistant" else turn for turn in turns]


def _mark(history: History, request: Request) -> None:
    """Put breakpoints on the last of the client's marks, and on the end of the instructions, which other conversations begin with too."""
    if request.size_bytes < _MIN_CACHED_CHARS:
        return
    marked = history.marked[-MAX_BREAKPOINTS:]
    if history.opening is not None and all(part is not history.opening for part in marked):
        marked = [history.opening, *marked[-(MAX_BREAKPOINTS - 1) :]]
    for part in marked:
        part["prompt_cache_breakpoint"] = _BREAKPOINT


def _segments(parts: Mapping[str, Sequence[bytes]], items: Sequence[Any]) -> list[tuple[str, bytes]]:
    """Digests of the prompt's parts in the cache's order: tools, then each item; breakpoints aside."""
    segments = [("tools", _digest(b"".join(parts["tools"])))] if parts["tools"] else []
    for number, (text, item) in enumerate(zip(parts["input"], items, strict=True)):
        segments.append((f"input[{number}]", _digest(_unmarked(text, item))))
    return segments


def _unmarked(text: bytes, item: Mapping[str, Any]) -> bytes:
    if b'"prompt_cache_breakpoint":' not in text or not isinstance(item.get("content"), list):
        return text
    content = [{key: value for key, value in part.items() if key != "prompt_cache_breakpoint"} for part in item["content"]]
    return jsonio.encode({**item, "content": content})


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
