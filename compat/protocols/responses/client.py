"""OpenAI's Responses protocol on the client's side: what the core asks of it."""

from __future__ import annotations

import re
from typing import Any

from compat.errors import BadRequest
from compat.protocols.client_protocol import DEFAULT_MODEL, Ask, ClientProtocol, Headers, is_stream, limit_of, model_of
from compat.protocols.opening import opening_of
from compat.protocols.responses.client_errors import error_body, error_end, error_frame, headers_of, status_of
from compat.protocols.responses.client_request import read_request
from compat.protocols.responses.compaction import CompactionWriter
from compat.protocols.responses.going_on import RESCUE, again
from compat.protocols.responses.models import LISTING
from compat.protocols.responses.parts import API
from compat.protocols.responses.shown import ShownReader, piece_chars, replayed, whole_events
from compat.protocols.responses.writer import ResponsesWriter
from compat.wire.envelope import Envelope

SESSION_HEADERS = ("session-id", "thread-id")
"""Of Codex; both name the conversation, but where a sub-agent has a thread of its own."""

PARENT_HEADER = "x-codex-parent-thread-id"
"""The thread that began a sub-agent's."""
_CALL = re.compile(rb'event: response\.output_item\.added\ndata: [^\n]*"type":\s?"(?:function_call|custom_tool_call|tool_search_call)"')
_NOTHING: tuple[Any, ...] = (None, [], {}, "")


def read(envelope: Envelope, headers: Headers) -> Ask:
    """See `ClientProtocol`."""
    model = DEFAULT_MODEL if envelope.is_missing("model") else model_of(envelope)
    streams = is_stream(envelope)
    if not envelope.is_missing("input") and not envelope.starts_with("input", b"[") and not envelope.starts_with("input", b'"'):
        raise BadRequest("'input' must be a string or a list of items.", param="input")
    if envelope.is_empty("input") and envelope.value("previous_response_id") is None:
        raise BadRequest("'input' must hold at least one item.", param="input")
    session = next((headers[name] for name in SESSION_HEADERS if headers.get(name)), "") or envelope.value("prompt_cache_key")
    limit = limit_of(envelope.value("max_output_tokens"))
    session = session if isinstance(session, str) else ""
    thread, parent = headers.get("thread-id", ""), headers.get(PARENT_HEADER, "")
    lineage = (thread, parent if parent != session else "") if parent and thread != session else ("", "")
    return Ask(model, streams, True, limit, session_id=session, agent_id=lineage[0], parent_id=lineage[1])


def obstacle(envelope: Envelope) -> str:
    """Why an answer may not be given again; empty when it may."""
    if envelope.value("tools") not in _NOTHING:
        return "tools"
    items = envelope.value("input")
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            return "input"
        if item.get("type", "message") != "message":
            return "tools" if item.get("type") == "additional_tools" else "tool-results"
    return ""


def opening(envelope: Envelope) -> list[bytes]:
    """The words that a conversation begins with."""
    return [envelope["input"]] if envelope.starts_with("input", b'"') else opening_of(envelope, "input")


RESPONSES = ClientProtocol(
    api=API,
    endpoint="responses",
    paths=("/v1/responses",),
    headers=(*SESSION_HEADERS, PARENT_HEADER),
    read=read,
    prompt=("input", "instructions", "tools"),
    opening=opening,
    error_body=error_body,
    error_frame=error_frame,
    error_end=error_end,
    error_status=status_of,
    error_headers=headers_of,
    is_parent=True,
    listing=LISTING,
    searches=True,
    seals=True,
    answer_id=lambda new_id: f"resp_{new_id}",
    reader=ShownReader,
    whole_events=whole_events,
    again=again,
    replay=lambda body, _: replayed(body),
    call_key=b"_call",
    begins_call=lambda frames: _CALL.search(frames) is not None,
    stream_end=("response.completed", "response.completed"),
    end_reason="completed",
    request=read_request,
    writer=lambda ctx, notes: CompactionWriter(ctx, notes) if ctx.memory.summarises else ResponsesWriter(ctx, notes),
    obstacle=obstacle,
    rescue=RESCUE,
    piece_chars=piece_chars,
)
