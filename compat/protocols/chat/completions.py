"""Plain completions: to an upstream's own endpoint where it has one, else over a chat that asks for one (`infill.py`).

An endpoint is one of two: `completions` carry a prompt on, `infill` completes between a prompt and a suffix. Whether an upstream has one
for a model is seen from its refusals, and remembered as the refusal of a parameter is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from compat import jsonio
from compat.errors import ContextTooLong, GatewayError, GatewayLoop, UpstreamBroken, UpstreamRefusal
from compat.protocols.base import TranslatedAnswer, TranslatedRequest, TranslationContext, Translator
from compat.protocols.chat.inferred_end import NOTE
from compat.protocols.chat.infill import CompletionWriter, chat_body, read_completion
from compat.protocols.chat.passthrough import Chunk, PassthroughStream, translate_request
from compat.protocols.chat.reader import decoded
from compat.protocols.chat.upstream import ChatReader
from compat.protocols.chat.usage import estimate_object, usage_of, with_cost
from compat.protocols.joined import JoinedStream, MakeReader, answer_translator
from compat.protocols.refusals import endpoint_mark, refused_parameter
from compat.protocols.upstream_errors import event_error
from compat.protocols.upstream_protocol import error_of
from compat.wire.envelope import Envelope
from compat.wire.estimate import estimated_usage
from compat.wire.sse import data_frame

_LONGEST_OF_NONE = len(b"false")
_NOT_THERE = frozenset({400, 404, 405, 422, 501})
"""What an upstream says that has no such endpoint, or none for this model."""


def endpoint_of(envelope: Envelope) -> str:
    """The endpoint that a request is for."""
    written = envelope.get("suffix", b"null")
    return "infill" if len(written) > _LONGEST_OF_NONE or envelope.value("suffix") else "completions"


# To the endpoint for completions.


def translate_answer(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """A whole completion, its model's name replaced (see `Translator.response`). Errors: any `UpstreamError`."""
    document = decoded(body)
    if document.get("error") is not None:
        raise event_error(document["error"], ctx.upstream_name)
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise UpstreamBroken("The upstream's answer has no choices.")
    if "message" in choices[0]:  # some servers answer with a chat, whatever they were asked for
        return answer_translator(ChatReader, CompletionWriter)(body, ctx)
    if not all(isinstance(choice.get("text"), str) for choice in choices):
        raise UpstreamBroken("The upstream's answer has no text.")
    usage = document.get("usage")
    counted = usage_of(usage) if isinstance(usage, dict) else None
    if not (counted and counted.prompt_tokens) and ctx.count_prompt is not None:
        counted = estimated_usage(ctx.count_prompt(), sum(len(choice["text"]) for choice in choices))
        usage = estimate_object(counted)
    reason = choices[0].get("finish_reason")
    notes = () if isinstance(reason, str) and reason else (NOTE,)
    choices[0] |= {"finish_reason": "stop"} if notes else {}
    whole = {**document, "model": ctx.alias, **({"usage": with_cost(usage, ctx)} if isinstance(usage, dict) else {})}
    return TranslatedAnswer(jsonio.encode(whole), counted, choices[0]["finish_reason"], notes)


class CompletionEvents(PassthroughStream):
    """Events of an upstream's own completion, or of the chat that it answers with, forwarded under the client's name of the model."""

    OBJECT = "text_completion"
    ENDING: Mapping[str, Any] = {"text": "", "logprobs": None}

    def _frame(self, data: bytes, chunk: Chunk) -> bytes:
        """The frame for a chunk that has choices."""
        document = decoded(data)
        self._count_choices(chunk.choices or ())
        for choice in document["choices"]:
            if isinstance(delta := choice.pop("delta", None), dict):  # a chat's
                choice["text"] = delta.get("content") or ""
            text = choice.get("text") or ""
            if not isinstance(text, str):
                raise UpstreamBroken("The upstream sent an event that is not a chunk of a completion.")
            self.is_committed = self.is_committed or bool(text)
            self._scale.add_weighed(len(text))
        document.pop("usage", None)
        return data_frame(jsonio.encode({**document, **self._head()}))


def _refused(endpoint: str, error: GatewayError) -> str | None:
    """What was refused: a parameter that the call can do without, or the whole endpoint."""
    if not isinstance(error, UpstreamRefusal) or isinstance(error, ContextTooLong) or error.status not in _NOT_THERE:
        return None
    if error.code == GatewayLoop.code:  # a chat would go the same way round
        return None
    return refused_parameter(error) or endpoint_mark(endpoint)


OPENAI_COMPLETIONS: Mapping[str, Translator] = MappingProxyType(
    {
        endpoint: Translator(
            request=translate_request,
            response=translate_answer,
            stream=CompletionEvents,
            error=error_of,
            refused=partial(_refused, endpoint),
            endpoint=endpoint,
        )
        for endpoint in ("completions", "infill")
    }
)


# Over a chat.


def over_chat(chat: Translator, reader: MakeReader) -> Translator:
    """A translator for completions over one for chats, whose answers `reader` reads."""

    def request(envelope: Envelope, ctx: TranslationContext) -> TranslatedRequest:
        ask = read_completion(envelope)
        translated = chat.request(Envelope(chat_body(envelope, ask, reasons=ctx.model.reasoning)), ctx)
        return replace(translated, memory=replace(translated.memory, echo=ask.prompt if ask.echoes else ""))

    return Translator(
        request=request,
        response=answer_translator(reader, CompletionWriter),
        stream=lambda ctx: JoinedStream(ctx, reader, CompletionWriter),
        error=chat.error,
        refused=chat.refused,
        endpoint=chat.endpoint,
    )
