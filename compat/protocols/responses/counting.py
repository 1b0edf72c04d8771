"""`input_tokens` of the Responses API, to an upstream that has it: the model's name is changed."""

from __future__ import annotations

from dataclasses import replace

from compat import jsonio
from compat.protocols.base import Translator, no_stream
from compat.protocols.messages.counting import counted
from compat.protocols.responses.client import RESPONSES
from compat.protocols.responses.relay import refused, translate_request
from compat.protocols.upstream_protocol import error_of
from compat.wire.envelope import Envelope
from compat.wire.estimate import prompt_tokens


def written(tokens: int) -> bytes:
    """The answer's body."""
    return jsonio.encode({"object": "response.input_tokens", "input_tokens": tokens})


def tokens_of(envelope: Envelope) -> int:
    """An estimate of a request's tokens."""
    return prompt_tokens(envelope, RESPONSES.prompt)


INPUT_COUNT_COUNT = Translator(
    request=translate_request, response=counted, stream=no_stream, error=error_of, refused=refused, endpoint="openai.count"
)

INPUT_COUNT = replace(
    RESPONSES,
    api="openai.count",
    endpoint="input_tokens",
    paths=("/v1/responses/input_tokens",),
    request=None,
    writer=None,
    obstacle=None,
    rescue=None,
    listing=None,
    shares=False,
    is_served=False,
    is_parent=False,
)
