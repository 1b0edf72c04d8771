"""Plain completions on the client's side: what a request says, and answers that are given again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compat import jsonio
from compat.protocols.chat.client import CHAT, UNCHARGED
from compat.protocols.chat.infill import completion_id, read_completion, replayed
from compat.protocols.client_protocol import Ask, Headers, Identity, Said, limit_of
from compat.wire.envelope import Envelope

_OPENING_BYTES = 1024


def read(envelope: Envelope, _: Headers) -> Ask:
    """See `ClientProtocol`."""
    asked = read_completion(envelope)
    return Ask(asked.model, asked.is_stream, asked.wants_usage, limit_of(envelope.value("max_tokens")))


def again(said: Sequence[Said], identity: Identity) -> bytes:
    """A whole answer once more."""
    rows = [{"index": one.index, "text": one.text, "logprobs": None, "finish_reason": "stop"} for one in said]
    head = {"id": completion_id(identity.answer_id), "object": "text_completion", "created": identity.created_s, "model": identity.model}
    return jsonio.encode({**head, "choices": rows, "usage": UNCHARGED})


COMPLETIONS = replace(
    CHAT,
    api="openai.completions",
    endpoint="completions",
    paths=("/v1/completions",),
    read=read,
    prompt=("prompt", "suffix"),
    opening=lambda envelope: [envelope.get("prompt", b"")[:_OPENING_BYTES]],
    again=again,
    replay=replayed,
    request=None,
    writer=None,
    check=None,
    rescue=None,
    shares=False,
    reads_all=True,
)
