"""A call of a client: what is known of it before anything is done."""

from __future__ import annotations

from dataclasses import dataclass

from compat.errors import BadRequest
from compat.translate.base import WireApi
from compat.wire.envelope import Envelope

MAX_MODEL_CHARS = 500


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client, checked as far as every call is. `session_id` is the client's own word for its
    conversation, `cache_wish` what it says about the answer cache (`x-compat-cache`), `trace_parent` the span that it is a part of,
    `hops` how many gateways it has come through."""

    request_id: str
    envelope: Envelope
    model: str
    is_stream: bool
    wants_usage: bool
    client: str
    received_s: float
    session_id: str = ""
    cache_wish: str = ""
    trace_parent: str = ""
    wire_api: WireApi = "openai.chat"
    hops: int = 0


def call_from(
    envelope: Envelope,
    *,
    request_id: str,
    client: str,
    received_s: float,
    session_id: str = "",
    cache_wish: str = "",
    trace_parent: str = "",
    hops: int = 0,
) -> Call:
    """The call that an envelope stands for. `BadRequest` when the keys that every call needs are missing or of the wrong type."""
    model = envelope.value("model")
    if not isinstance(model, str) or not model.strip():
        raise BadRequest("'model' must be a name: see GET /v1/models.", param="model")
    if len(model) > MAX_MODEL_CHARS:
        raise BadRequest(f"'model' must be a name of at most {MAX_MODEL_CHARS} characters.", param="model")
    stream = envelope.value("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("'stream' must be true or false.", param="stream")
    if not envelope.starts_with("messages", b"["):
        raise BadRequest("'messages' must be a list of messages.", param="messages")
    if not envelope["messages"][1:-1].strip():
        raise BadRequest("'messages' must hold at least one message.", param="messages")
    options = envelope.value("stream_options") or {}
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    return Call(
        request_id,
        envelope,
        model.strip(),
        is_stream=bool(stream),
        wants_usage=options.get("include_usage") is True,
        client=client,
        received_s=received_s,
        session_id=session_id,
        cache_wish=cache_wish,
        trace_parent=trace_parent,
        hops=hops,
    )
