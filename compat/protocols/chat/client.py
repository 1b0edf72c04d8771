"""OpenAI's chat protocol on the client's side: what a request says, and answers that are carried on or given again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.chat.check import check_messages
from compat.protocols.chat.chunks import CALLS_KEY, begins_call, completion_frames
from compat.protocols.chat.errors import error_body, error_frame
from compat.protocols.chat.reader import ChunkReader, whole_events
from compat.protocols.chat.request import read_request
from compat.protocols.chat.usage import with_spent
from compat.protocols.chat.writer import ChatWriter
from compat.protocols.client_protocol import Ask, ClientProtocol, Headers, Identity, Rescue, Said, continued, is_stream, limit_of, model_of
from compat.protocols.joined import FrameWriter
from compat.protocols.opening import opening_of
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage

MAX_CHOICES = 128
"""The most answers that OpenAI's API gives to one request (`n`)."""

UNCHARGED: Mapping[str, Any] = {
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "total_tokens": 0,
    "cost_details": {"upstream_inference_cost": 0},
}
"""The usage of an answer that is given again."""

_NOTHING: tuple[Any, ...] = (None, [], {}, "")


def read(envelope: Envelope, _: Headers) -> Ask:
    """See `ClientProtocol`."""
    model, streams = model_of(envelope), is_stream(envelope)
    if not envelope.starts_with("messages", b"["):
        raise BadRequest("'messages' must be a list of messages.", param="messages")
    if envelope.is_empty("messages"):
        raise BadRequest("'messages' must hold at least one message.", param="messages")
    limit = limit_of(envelope.value("max_completion_tokens") or envelope.value("max_tokens"))
    return Ask(model, streams, wants_usage(envelope), limit, _answers(envelope.value("n")))


def wants_usage(envelope: Envelope) -> bool:
    """Whether the client wants the chunk with what a stream took. Errors: `BadRequest`."""
    options = envelope.value("stream_options") or {}
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    return options.get("include_usage") is True


def _answers(value: Any) -> int:
    return min(value, MAX_CHOICES) if type(value) is int and value > 1 else 1


def obstacle(envelope: Envelope) -> str:
    """Why an answer may not be given again; empty when it may. A plain completion has no messages."""
    if any(envelope.value(name) not in _NOTHING for name in ("tools", "functions")):
        return "tools"
    messages = jsonio.decode(envelope.get("messages", b"[]"))
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return "messages"
    for message in messages:
        if message.get("role") in ("tool", "function") or any(message.get(key) not in _NOTHING for key in ("tool_calls", "function_call")):
            return "tool-results"
    return ""


def again(said: Sequence[Said], identity: Identity) -> bytes:
    """A whole answer once more."""
    rows = []
    for one in said:
        thinking = {"reasoning_content": one.thinking} if one.thinking else {}
        message = {"role": "assistant", "content": one.text, **thinking}
        rows.append({"index": one.index, "message": message, "finish_reason": "stop"})
    head = {"id": identity.answer_id, "object": "chat.completion", "created": identity.created_s, "model": identity.model}
    return jsonio.encode({**head, "choices": rows, "usage": UNCHARGED})


# An answer that is carried on.


def _may(envelope: Envelope) -> bool:
    """Not one that must be JSON: a second attempt would decide its structure from the start."""
    wanted = envelope.value("response_format")
    is_free = not isinstance(wanted, dict) or wanted.get("type") in (None, "text")
    return is_free and envelope.value("n") in (None, 1)


def _asks_thinking(envelope: Envelope) -> bool:
    return envelope.value("reasoning_effort") not in (None, "none") or bool(envelope.value("reasoning"))


def _rest(envelope: Envelope, text: str, tokens: int, words: str) -> Envelope:
    turns: list[dict[str, Any]] = [{"role": "assistant", "content": text}]
    if words:
        turns.append({"role": "user", "content": words})
    changes = {"messages": envelope["messages"].rstrip()[:-1] + b"," + jsonio.encode(turns)[1:]}
    return continued(envelope, changes, ("max_tokens", "max_completion_tokens"), tokens)


def _going_on(identity: Identity, wants_usage: bool) -> FrameWriter:  # one of `Rescue.going_on`
    return ChatWriter.going_on(identity.context(wants_usage=wants_usage))


def _with_spent(told: Any, usage: Usage, cost_usd: float) -> Mapping[str, Any]:
    return with_spent(told if isinstance(told, Mapping) else {}, usage, cost_usd)


CHAT = ClientProtocol(
    api="openai.chat",
    endpoint="chat",
    paths=("/v1/chat/completions",),
    read=read,
    prompt=("messages", "tools"),
    opening=lambda envelope: opening_of(envelope, "messages"),
    error_body=error_body,
    error_frame=error_frame,
    answer_id=lambda new_id: f"chatcmpl-{new_id}",
    reader=ChunkReader,
    whole_events=whole_events,
    again=again,
    replay=completion_frames,
    call_key=CALLS_KEY,
    begins_call=begins_call,
    stream_end=("finish_reason", "[DONE]"),
    end_reason="stop",
    request=read_request,
    writer=ChatWriter,
    obstacle=obstacle,
    check=check_messages,
    rescue=Rescue(_may, _asks_thinking, _rest, _going_on, _with_spent),
)
