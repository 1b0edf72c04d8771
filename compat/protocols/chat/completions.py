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
from compat.errors import BadRequest, ContextTooLong, GatewayError, GatewayLoop, UpstreamBroken, UpstreamRefusal
from compat.protocols.base import StreamTranslator, TranslatedAnswer, TranslatedRequest, TranslationContext, Translator
from compat.protocols.chat.inferred_end import NOTE
from compat.protocols.chat.infill import CompletionWriter, chat_body, read_completion, replayed
from compat.protocols.chat.passthrough import translate_error, translate_request
from compat.protocols.chat.upstream import ChatReader
from compat.protocols.chat.usage import usage_of, with_cost
from compat.protocols.joined import JoinedStream, MakeReader, answer_translator
from compat.protocols.refusals import refused_parameter
from compat.protocols.upstream_errors import error_fields, event_error
from compat.wire.envelope import Envelope
from compat.wire.estimate import estimated_usage, usage_object
from compat.wire.sse import DONE, data_frame, parse_event
from compat.wire.usage import Usage

_LONGEST_OF_NONE = len(b"false")
_NOT_THERE = frozenset({400, 404, 405, 422, 501})
"""What an upstream says that has no such endpoint, or none for this model."""


def endpoint_of(envelope: Envelope) -> str:
    """The endpoint that a request is for."""
    written = envelope.get("suffix", b"null")
    return "infill" if len(written) > _LONGEST_OF_NONE or envelope.value("suffix") else "completions"


def endpoint_mark(endpoint: str) -> str:
    """How the lack of an endpoint is remembered, among the parameters that a deployment refuses."""
    return f"endpoint {endpoint}"


# To the endpoint for completions.


def translate_answer(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """A whole completion, its model's name replaced (see `Translator.response`). Errors: any `UpstreamError`."""
    try:
        document = jsonio.decode(body, "The answer")
    except BadRequest as error:
        raise UpstreamBroken(f"The upstream's answer is not a completion: {error.message}") from error
    choices = _choices(document, ctx)
    if choices and "message" in choices[0]:  # some servers answer with a chat, whatever they were asked for
        return answer_translator(ChatReader, CompletionWriter)(body, ctx)
    if not choices or not all(isinstance(choice.get("text"), str) for choice in choices):
        raise UpstreamBroken("The upstream's answer has no text.")
    usage = document.get("usage")
    counted = usage_of(usage) if isinstance(usage, dict) else None
    if not (counted and counted.prompt_tokens) and ctx.count_prompt is not None:
        counted = estimated_usage(ctx.count_prompt(), sum(len(choice["text"]) for choice in choices))
        usage = usage_object(counted)
    reason = choices[0].get("finish_reason")
    notes = () if isinstance(reason, str) and reason else (NOTE,)
    choices[0] |= {"finish_reason": "stop"} if notes else {}
    whole = {**document, "model": ctx.alias, **({"usage": with_cost(usage, ctx)} if isinstance(usage, dict) else {})}
    return TranslatedAnswer(jsonio.encode(whole), counted, choices[0]["finish_reason"], notes)


class CompletionEvents(StreamTranslator):
    """Events of an upstream's own completion, forwarded under the client's name of the model."""

    def __init__(self, ctx: TranslationContext) -> None:
        super().__init__(ctx)
        self._head: dict[str, Any] = {}
        self._raw_usage: dict[str, Any] | None = None
        self._text_bytes = 0

    def translate_event(self, block: bytes) -> bytes:
        """One chunk, or nothing for a comment, a usage chunk or the end mark. Errors: any `UpstreamError`."""
        name, data = parse_event(block)
        if not data or self.is_finished:
            return b""
        if data == b"[DONE]":
            self.is_finished = True
            return b""
        if name == b"error":
            raise event_error(error_fields(data), self.ctx.upstream_name)
        try:
            chunk = jsonio.decode(data)
        except BadRequest as error:
            raise UpstreamBroken(f"The upstream sent an event that is not a chunk: {error.message}") from error
        choices = _choices(chunk, self.ctx)
        usage = chunk.pop("usage", None)
        if isinstance(usage, dict):
            self._raw_usage, self.usage = usage, usage_of(usage)
        head = {key: value for key, value in chunk.items() if key != "choices"} | {"model": self.ctx.alias}
        self._head = self._head or {key: head[key] for key in ("id", "object", "created", "model") if key in head}
        if not choices:
            return b""
        if isinstance(delta := choices[0].pop("delta", None), dict):  # a chat's
            choices[0]["text"] = delta.get("content") or ""
        text, reason = choices[0].get("text"), choices[0].get("finish_reason")
        if text is not None and not isinstance(text, str):
            raise UpstreamBroken("The upstream sent an event that is not a chunk of a completion.")
        self.is_committed = self.is_committed or bool(text)
        self._text_bytes += len(text or "")
        self.stop_reason = reason if isinstance(reason, str) and reason else self.stop_reason
        return data_frame(jsonio.encode({**head, **self._head, "choices": choices}))

    def translate_end(self) -> bytes:
        """The reason where it was left out, the usage chunk when it was asked for, and the end mark."""
        end = b""
        if self.stop_reason is None:
            if not self.is_committed or not (self.is_finished or (self.is_whole and self._raw_usage)):
                raise UpstreamBroken("The upstream ended its answer without a finish_reason.")
            self.stop_reason = "stop"
            self.notes.append(NOTE)
            choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
            end = data_frame(jsonio.encode({**self._head, "choices": [choice]}))
        self.is_finished = True
        usage = self._raw_usage
        if not (self.usage and self.usage.prompt_tokens):
            self.usage = self.usage_so_far()
            usage = usage_object(self.usage)
        if usage is not None and self.ctx.wants_usage:
            end += data_frame(jsonio.encode({**self._head, "choices": [], "usage": with_cost(usage, self.ctx)}))
        return end + DONE

    def usage_so_far(self) -> Usage:
        """See `StreamTranslator`."""
        if self.usage is not None and self.usage.prompt_tokens:
            return self.usage
        return estimated_usage(self.ctx.count_prompt() if self.ctx.count_prompt is not None else 0, self._text_bytes)


def _choices(document: Any, ctx: TranslationContext) -> list[dict[str, Any]]:
    """The choices of an answer or a chunk. Errors: `UpstreamBroken`, and what an error in it stands for."""
    if not isinstance(document, dict):
        raise UpstreamBroken("The upstream's answer is not a completion.")
    if document.get("error") is not None:
        raise event_error(document["error"], ctx.upstream_name)
    choices = document.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise UpstreamBroken("The upstream's answer is not a completion.")
    return choices


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
            error=translate_error,
            refused=partial(_refused, endpoint),
            replay=replayed,
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
        replay=replayed,
    )
