"""Anthropic's Messages protocol on the client's side: what a request says, and answers that are carried on or given again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.client_protocol import Ask, ClientProtocol, Headers, Identity, Rescue, Said, continued, is_stream, limit_of, model_of
from compat.protocols.joined import FrameWriter
from compat.protocols.messages.client_request import read_request, session_in
from compat.protocols.messages.client_tools import SEARCH
from compat.protocols.messages.errors import error_body, error_frame, headers_of, status_of
from compat.protocols.messages.estimate import tokens_of
from compat.protocols.messages.models import LISTING
from compat.protocols.messages.shapes import API
from compat.protocols.messages.shown import ShownReader, replayed, whole_events
from compat.protocols.messages.writer import PING, MessagesWriter, usage_object
from compat.protocols.opening import opening_of
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage

SESSION_HEADER = "x-claude-code-session-id"
AGENT_HEADER = "x-claude-code-agent-id"
PARENT_HEADER = "x-claude-code-parent-agent-id"
_CALL = re.compile(rb'event: content_block_start\ndata: [^\n]*"type":\s?"tool_use"')
_SEARCH = b'"' + SEARCH.encode()
_MAX_SEARCH_BYTES = 16_384
"""Of a list with nothing but a search in it."""
_NOTHING: tuple[Any, ...] = (None, [], {}, "")


def read(envelope: Envelope, headers: Headers) -> Ask:
    """See `ClientProtocol`."""
    model, streams = model_of(envelope), is_stream(envelope, "stream: Input should be a valid boolean")
    if not envelope.starts_with("messages", b"["):
        raise BadRequest("messages: Input should be a valid list", param="messages")
    if envelope.is_empty("messages"):
        raise BadRequest("messages: at least one message is required", param="messages")
    metadata = envelope.value("metadata")
    session = headers.get(SESSION_HEADER, "") or session_in(metadata.get("user_id") if isinstance(metadata, dict) else None)
    limit, agent, parent = limit_of(envelope.value("max_tokens")), headers.get(AGENT_HEADER, ""), headers.get(PARENT_HEADER, "")
    return Ask(model, streams, True, limit, session_id=session, agent_id=agent, parent_id=parent)


def obstacle(envelope: Envelope) -> str:
    """Why an answer may not be given again; empty when it may."""
    if envelope.value("tools") not in _NOTHING:
        return "tools"
    messages = jsonio.decode(envelope["messages"])
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") in ("tool_use", "tool_result", "server_tool_use"):
                return "tool-results"
    return "" if all(isinstance(message, dict) for message in messages) else "messages"


def again(said: Sequence[Said], identity: Identity) -> bytes:
    """A whole answer once more. A thought is not: nobody would have signed it."""
    content = [{"type": "text", "text": one.text} for one in said[:1] if one.text]
    head = {"id": identity.answer_id, "type": "message", "role": "assistant", "model": identity.model, "content": content}
    end = {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}
    return jsonio.encode({**head, **end, "usage": usage_object(Usage())})


def only_searches(envelope: Envelope) -> bool:
    """Whether its only tool is a search of the web: the way in which Claude Code searches."""
    raw = envelope.get("tools", b"")
    if len(raw) > _MAX_SEARCH_BYTES or _SEARCH not in raw:
        return False
    tools = envelope.value("tools")
    kinds = [str(tool.get("type")) if isinstance(tool, dict) else "" for tool in tools] if isinstance(tools, list) else []
    return len(kinds) == 1 and kinds[0].startswith(SEARCH)


def _begins_call(frames: bytes) -> bool:
    return _CALL.search(frames) is not None


# An answer that is carried on.


def _may(envelope: Envelope) -> bool:
    """Not one that must be JSON: a second attempt would decide its structure from the start."""
    config = envelope.value("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    return wanted is None and envelope.value("output_format") is None


def _asks_thinking(envelope: Envelope) -> bool:
    thinking = envelope.value("thinking")
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def _rest(envelope: Envelope, text: str, tokens: int, words: str) -> Envelope:
    turns: list[dict[str, Any]] = [{"role": "assistant", "content": text if words else text.rstrip()}]
    if words:
        turns.append({"role": "user", "content": words})
    changes = {"messages": envelope["messages"].rstrip()[:-1] + b"," + jsonio.encode(turns)[1:]}
    return continued(envelope, changes, ("max_tokens",), tokens)


def _going_on(identity: Identity, wants_usage: bool) -> FrameWriter:  # one of `Rescue.going_on`
    number, kind = identity.place if identity.place is not None else (-1, None)
    return MessagesWriter.going_on(identity.context(wants_usage=wants_usage), number, kind)


MESSAGES = ClientProtocol(
    api=API,
    endpoint="messages",
    paths=("/v1/messages",),
    headers=(SESSION_HEADER, AGENT_HEADER, PARENT_HEADER, "anthropic-*"),
    read=read,
    prompt=("messages", "system", "tools"),
    opening=lambda envelope: opening_of(envelope, "messages"),
    error_body=error_body,
    error_frame=error_frame,
    error_status=status_of,
    error_headers=headers_of,
    id_header="request-id",
    is_parent=True,
    listing=LISTING,
    count=tokens_of,
    searches=True,
    only_searches=only_searches,
    heartbeat=PING,
    seals=True,
    answer_id=lambda new_id: f"msg_{new_id}",
    reader=ShownReader,
    whole_events=whole_events,
    again=again,
    replay=lambda body, _: replayed(body),
    call_key=b'"tool_use"',
    begins_call=_begins_call,
    stream_end=("stop_reason", "message_stop"),
    end_reason="end_turn",
    request=read_request,
    writer=MessagesWriter,
    obstacle=obstacle,
    rescue=Rescue(_may, _asks_thinking, _rest, _going_on, lambda told, _usage, _cost: told),
)
