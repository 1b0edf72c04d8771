"""Requests for services that are like Anthropic's and take a part of its protocol only (`MessagesSubset`): the rest is left out, noted.

What many of them refuse: fields and betas of Anthropic's newest models (tickets 9router#1468, claude-code#21612, #31033), blocks of tools
that its servers run. Deferred tools are shown once they were found, as its servers do; the billing block of Claude Code would spoil their
prompt caches. What is taken keeps its bytes, message by message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from compat import jsonio
from compat.protocols.base import MessagesSubset, TranslatedRequest
from compat.protocols.messages.client_tools import read_tools
from compat.protocols.messages.client_turns import BILLING, found_tools, read_turns
from compat.protocols.notes import Notes
from compat.protocols.request import Function, Tool
from compat.protocols.served import words_of
from compat.wire.envelope import Envelope, raw_items

BETAS = "anthropic-beta"
_TOOL_FIELDS = ("name", "description", "input_schema", "cache_control")


def fitted(request: TranslatedRequest, subset: MessagesSubset) -> TranslatedRequest:
    """The request as the service takes it. Errors: `BadRequest`."""
    notes = Notes()
    envelope = Envelope(request.body)
    dropped = [name for name in envelope if name not in subset.fields]
    notes.add_all("dropped", dropped)
    changes: dict[str, bytes] = {}
    if envelope.starts_with("system", b"["):
        changes |= _system(envelope, notes)
    if "tools" in envelope and "tools" not in dropped:
        tools, unwanted = _tools(envelope, subset, notes)
        changes |= tools
        dropped += unwanted
    messages = _messages(envelope.get("messages", b""), subset, notes)
    changes |= {"messages": messages} if messages is not None else {}
    left = envelope.without(dropped) if dropped else envelope
    changes = {name: value for name, value in changes.items() if name not in dropped}
    return replace(
        request, body=left.replaced(changes), headers=_headers(request.headers, subset, notes), notes=(*request.notes, *notes.told())
    )


def _headers(headers: Mapping[str, str], subset: MessagesSubset, notes: Notes) -> Mapping[str, str]:
    """The headers with those betas that the service knows."""
    betas = [beta.strip() for beta in headers.get(BETAS, "").split(",") if beta.strip()]
    taken = [beta for beta in betas if beta in subset.betas]
    if len(taken) < len(betas):
        notes.add("dropped", f"{BETAS}({len(betas) - len(taken)})")
    rest = {name: value for name, value in headers.items() if name != BETAS}
    return {**rest, BETAS: ",".join(taken)} if taken else rest


def _system(envelope: Envelope, notes: Notes) -> dict[str, bytes]:
    blocks = envelope.value("system")
    kept = [block for block in blocks if not (isinstance(block, dict) and str(block.get("text")).startswith(BILLING))]
    if len(kept) == len(blocks):
        return {}
    notes.add("dropped", "billing_header")
    return {"system": jsonio.encode(kept)}


def _tools(envelope: Envelope, subset: MessagesSubset, notes: Notes) -> tuple[dict[str, bytes], list[str]]:
    """The tools that the service knows, and the fields that are not to be sent: there is no choice among none."""
    asked = read_tools(envelope.value("tools"), found_tools(read_turns(envelope.value("messages"))))
    shown = [(raw, tool) for raw, tool in zip(raw_items(envelope["tools"]), asked, strict=True) if _is_taken(tool, subset, notes)]
    if not shown:
        return {}, [name for name in ("tools", "tool_choice") if name in envelope]
    choice = envelope.value("tool_choice")
    is_lost = isinstance(choice, dict) and choice.get("type") == "tool" and choice.get("name") not in [tool.name for _, tool in shown]
    notes.add_all("dropped", ["tool_choice"] if is_lost else [])
    written = [_written(raw, tool) for raw, tool in shown]
    return {"tools": b"[%s]" % b",".join(written)}, ["tool_choice"] if is_lost else []


def _is_taken(tool: Tool, subset: MessagesSubset, notes: Notes) -> bool:
    if isinstance(tool, Function):
        return not tool.is_deferred
    is_taken = tool.what.rpartition("_")[0] in subset.tools  # type: ignore[union-attr]  # the client's half makes no others
    if not is_taken:
        notes.add("dropped", f"tool({tool.name})")
    return is_taken


def _written(raw: bytes, tool: Tool) -> bytes:
    """A tool of the client's with the fields that every service takes."""
    if not isinstance(tool, Function):
        return raw
    fields = jsonio.decode(raw)
    kept = {name: fields[name] for name in _TOOL_FIELDS if name in fields}
    return jsonio.encode(
        kept if "input_schema" in kept else {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
    )


def _messages(messages: bytes, subset: MessagesSubset, notes: Notes) -> bytes | None:
    """The messages whose blocks are all taken; `None` where they were."""
    found = raw_items(messages)
    written = [_message(message, subset, notes) for message in found]
    return b"[%s]" % b",".join(written) if any(one is not other for one, other in zip(written, found, strict=True)) else None


def _message(raw: bytes, subset: MessagesSubset, notes: Notes) -> bytes:
    message = jsonio.decode(raw)
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return raw
    taken = list(_blocks(content, subset, notes))
    return raw if taken == content else jsonio.encode({**message, "content": taken or [_text("(no content)")]})


def _blocks(content: list[Any], subset: MessagesSubset, notes: Notes) -> Iterator[Any]:
    """The blocks of a content, and of results within; what is not taken is words, where it has any."""
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in subset.blocks or not isinstance(kind, str):
            inner = block.get("content") if kind == "tool_result" else None
            yield {**block, "content": [*_blocks(inner, subset, notes)]} if isinstance(inner, list) else block
            continue
        notes.add("left_out", kind)
        if words := words_of(block):
            yield _text(words)


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}
