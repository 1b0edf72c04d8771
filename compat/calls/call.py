"""A call of a client: what is known of it before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Required, TypedDict, Unpack

from compat.errors import BadRequest
from compat.protocols.base import ClientApi
from compat.protocols.chat.infill import Completion
from compat.wire.envelope import Envelope

MAX_MODEL_CHARS = 500
MAX_CHOICES = 128
"""The most answers that OpenAI's API gives to one request (`n`)."""


class Origin(TypedDict, total=False):
    """Whose call it is, and what its headers say: see `Call`."""

    request_id: Required[str]
    client: Required[str]
    received_s: Required[float]
    session_id: str
    cache_wish: str
    trace_parent: str
    hops: int


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client, checked as far as every call is.

    `session_id` is the client's own name for its conversation, `cache_wish` what it says about the answer cache (`x-compat-cache`),
    `trace_parent` the span that it is a part of, `hops` how many gateways it has come through. `output_limit` is how many tokens an answer
    may have by the client's word, `choices` how many answers it wants.
    """

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
    hops: int = 0
    wire_api: ClientApi = "openai.chat"
    output_limit: int | None = None
    choices: int = 1

    def most_output(self, bound: int) -> int:
        """How many tokens all answers may have of a model that gives at most `bound` in one."""
        most = bound if self.output_limit is None else min(self.output_limit, bound)
        return most * self.choices


def call_from(envelope: Envelope, **origin: Unpack[Origin]) -> Call:
    """The chat that an envelope stands for. `BadRequest` when the keys that every call needs are missing or of the wrong type."""
    model = model_of(envelope)
    stream = envelope.value("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("'stream' must be true or false.", param="stream")
    if not envelope.starts_with("messages", b"["):
        raise BadRequest("'messages' must be a list of messages.", param="messages")
    if envelope.is_empty("messages"):
        raise BadRequest("'messages' must hold at least one message.", param="messages")
    options = envelope.value("stream_options") or {}
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    return Call(
        envelope=envelope,
        model=model,
        is_stream=bool(stream),
        wants_usage=options.get("include_usage") is True,
        output_limit=_limit(envelope.value("max_completion_tokens") or envelope.value("max_tokens")),
        choices=_choices(envelope.value("n")),
        **origin,
    )


def completion_call(envelope: Envelope, ask: Completion, **origin: Unpack[Origin]) -> Call:
    """The call for a plain completion, which was read from its envelope."""
    return Call(
        envelope=envelope,
        model=model_of(envelope),
        is_stream=ask.is_stream,
        wants_usage=ask.wants_usage,
        wire_api="openai.completions",
        output_limit=_limit(envelope.value("max_tokens")),
        **origin,
    )


def embeddings_call(envelope: Envelope, **origin: Unpack[Origin]) -> Call:
    """The call for embeddings, whose answer has no tokens."""
    return Call(
        envelope=envelope,
        model=model_of(envelope),
        is_stream=False,
        wants_usage=False,
        wire_api="openai.embeddings",
        output_limit=0,
        **origin,
    )


def model_of(envelope: Envelope) -> str:
    """The model's name. `BadRequest` where there is none."""
    model = envelope.value("model")
    if not isinstance(model, str) or not model.strip():
        raise BadRequest("'model' must be a name: see GET /v1/models.", param="model")
    if len(model) > MAX_MODEL_CHARS:
        raise BadRequest(f"'model' must be a name of at most {MAX_MODEL_CHARS} characters.", param="model")
    return model.strip()


def _limit(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _choices(value: Any) -> int:
    return min(value, MAX_CHOICES) if type(value) is int and value > 1 else 1
