"""OpenAI chat completions to an upstream of the same wire API: bytes pass, and only what must differ is changed.

Request: the model's name; `stream_options.include_usage` is switched on, so that every call can be counted; message fields that the
upstream would refuse are left out. Answer: the model's name is the one that the client asked for. A stream is made regular: role in
the first chunk, one id, `created` and model, a delta in each choice, usage in one last chunk when it was asked for, one `[DONE]`. An end
without `finish_reason` gets the one that it must have had (`inferred_end`), unless something may be missing: that is an error.

A chunk is decoded just far enough to see that it is one (a typed `msgspec` decode of a few fields), or known to be like the one before but
for its text (`compat/protocols/chat/chunk_template.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import BadRequest, UpstreamBroken
from compat.protocols.base import (
    StreamTranslator,
    TranslatedAnswer,
    TranslatedRequest,
    TranslationContext,
    Translator,
)
from compat.protocols.chat.chunk_template import ChunkTemplate, template_of
from compat.protocols.chat.chunks import DONE, begins_call
from compat.protocols.chat.inferred_end import NOTE, CallEvents, reason_of_message
from compat.protocols.chat.usage import estimate_object, usage_of, with_cost
from compat.protocols.refusals import NESTED
from compat.protocols.upstream_errors import error_fields, event_error
from compat.protocols.upstream_protocol import error_of
from compat.wire.envelope import Envelope, repaired
from compat.wire.estimate import StreamScale, estimated_usage
from compat.wire.sse import data_frame, parse_event
from compat.wire.usage import Usage


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None

    def has_content(self) -> bool:
        return bool(self.content or self.tool_calls or self.reasoning_content or self.reasoning or self.refusal or self.function_call)


class _FirstChoice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _AnyDelta(msgspec.Struct):
    """Whatever it holds."""


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _AnyDelta | None = None
    finish_reason: str | None = None


class _WholeChoice(msgspec.Struct):
    """Of a choice of a whole answer: the rest of it may be long, and is nobody's business here."""

    finish_reason: Any = None


class _ChunkHead(msgspec.Struct):
    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    type: str | None = None


class _FirstChunk(_ChunkHead):
    choices: list[_FirstChoice] | None = None


class _Chunk(_ChunkHead):
    choices: list[_Choice] | None = None


Chunk = _FirstChunk | _Chunk

MAX_CHOICES = 1024
"""Of a stream, which remembers them; OpenAI's own bound of `n` is 128."""

MOST_TEMPLATES = 8
"""In a row that no chunk was like: then this upstream's chunks differ in more than their text, and no more templates are made."""

_decode_first = msgspec.json.Decoder(_FirstChunk).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_choices = msgspec.json.Decoder(list[_WholeChoice]).decode


class PassthroughStream(StreamTranslator):
    """Chunks of an OpenAI-compatible upstream, forwarded event by event."""

    OBJECT = "chat.completion.chunk"
    ENDING: Mapping[str, Any] = {"delta": {}}
    """Of a choice that ends and says nothing."""

    def __init__(self, ctx: TranslationContext) -> None:
        super().__init__(ctx)
        self._identity: tuple[str, int] | None = None
        self._raw_usage: dict[str, Any] | None = None
        self._scale = StreamScale()
        self._open_choices: set[int] = set()
        self._seen_choices: set[int] = set()
        self._calls: CallEvents | None = None
        self._their_model = b""
        self._our_model = b'"model":' + jsonio.encode(ctx.alias)
        self._template: ChunkTemplate | None = None
        self._templates_left = MOST_TEMPLATES

    def translate_known(self, text: bytes) -> bytes | None:
        """Frames for events that are like one that was decoded before."""
        known = None if self._template is None or self.is_finished else self._template.rewritten(text)
        if known is None:
            return None
        frames, text_bytes = known
        if self._calls is not None and self._open_choices:
            self._calls.add(text)
        self._scale.add_weighed(text_bytes)
        self._templates_left = MOST_TEMPLATES
        return frames

    def translate_end(self) -> bytes:
        """The usage chunk, when it was asked for, and the end mark. Usage that the upstream left out is estimated."""
        if not self._seen_choices:
            raise UpstreamBroken("The upstream ended its answer without a finish_reason.")
        inferred = b"".join(map(self._inferred_end, sorted(self._open_choices)))
        self.is_finished = True
        usage = self._raw_usage
        if not (self.usage and self.usage.prompt_tokens) and self.ctx.count_prompt is not None:
            self.usage = self.usage_so_far()
            usage = estimate_object(self.usage)
        return inferred + (data_frame(self._usage_chunk(usage)) if usage is not None and self.ctx.wants_usage else b"") + DONE

    def _inferred_end(self, index: int) -> bytes:
        """The end of a choice that came without its reason. `UpstreamBroken` where something may be missing."""
        is_over = self.is_finished or (self.is_whole and (self._calls is not None or self._raw_usage is not None))
        reason = "stop" if self._calls is None else self._calls.reason(index)
        if reason is None or not (is_over and self.is_committed):
            raise UpstreamBroken("The upstream ended its answer without a finish_reason.")
        self.stop_reason = reason
        if NOTE not in self.notes:
            self.notes.append(NOTE)
        return data_frame(jsonio.encode({**self._head(), "choices": [{"index": index, **self.ENDING, "finish_reason": reason}]}))

    def usage_so_far(self) -> Usage:
        """See `StreamTranslator`; some upstreams send their counts with every chunk."""
        if self.usage is not None and self.usage.prompt_tokens:
            return self.usage
        return estimated_usage(self.ctx.prompt_tokens(), self._scale.text_bytes)

    def translate_event(self, block: bytes) -> bytes:
        """One chunk, or nothing for a comment, a usage chunk or the end mark."""
        name, data = parse_event(block)
        if not data or self.is_finished:
            return b""
        if data == b"[DONE]":
            self.is_finished = True
            return b""
        if name == b"error":
            raise event_error(error_fields(data), self.ctx.upstream_name)
        if b"\n" in data:  # an event of several lines: between two tokens, for a JSON string holds no line end
            data = data.replace(b"\n", b" ")
        try:
            chunk = self._decoded(data)
        except UpstreamBroken:
            whole = repaired(data)  # half a surrogate pair, as in `Envelope`
            if whole == data:
                raise
            data, chunk = whole, self._decoded(whole)
        if chunk.error is not None or chunk.type == "error":
            raise event_error(error_fields(data), self.ctx.upstream_name)
        return self._chunk(data, chunk)

    def _decoded(self, data: bytes) -> Chunk:
        try:
            if not data.isascii():
                str(data, "utf-8")  # the decoder looks at the fields that it knows only
            return _decode_chunk(data) if self.is_committed else _decode_first(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamBroken(f"The upstream sent an event that is not a chunk: {error}.") from error

    def _chunk(self, data: bytes, chunk: Chunk) -> bytes:
        if chunk.usage is not None:
            self._raw_usage = chunk.usage
            self.usage = usage_of(chunk.usage)
        if not chunk.choices:  # a usage chunk, or one without a choice (Azure's filter results): sent at the end, or not at all
            return b""
        if self._identity is None:
            self._identity = (chunk.id or self.ctx.completion_id, int(chunk.created or self.ctx.created_s))
            self._their_model = _written_model(data, chunk.model)
        return self._frame(data, chunk)

    def _frame(self, data: bytes, chunk: Chunk) -> bytes:
        """The frame for a chunk that has choices."""
        choices = chunk.choices or ()
        self._scale.add(data)
        if self._calls is None and begins_call(data):
            self._calls = CallEvents()
        if self._calls is not None:
            self._calls.add(b"data: " + data)
        is_opening, are_whole = self._count_choices(choices)
        lacks_role = False
        if isinstance(chunk, _FirstChunk):
            deltas = [choice.delta for choice in chunk.choices or ()]
            self.is_committed = any(delta is not None and delta.has_content() for delta in deltas)
            lacks_role = is_opening and any(delta is None or not delta.role for delta in deltas)
        is_regular = are_whole and chunk.usage is None and not lacks_role and (chunk.id, chunk.created) == self._identity
        if is_regular and self._their_model and self._their_model in data:
            frame = data_frame(data.replace(self._their_model, self._our_model))
        else:
            frame = data_frame(self._regular(data, adds_role=lacks_role))
        if self._templates_left and self.is_committed and not lacks_role and chunk.usage is None and self.stop_reason is None:
            self._template = template_of(data, frame)
            self.knows = self._template is not None
            self._templates_left -= 1
        return frame

    def _count_choices(self, choices: Sequence[_FirstChoice | _Choice]) -> tuple[bool, bool]:
        """Note which choices began and ended; whether this chunk begins one, and whether all are as the protocol has them."""
        is_opening = False
        are_whole = True
        for choice in choices:
            if choice.index not in self._seen_choices:
                if len(self._seen_choices) >= MAX_CHOICES:
                    raise UpstreamBroken(f"The upstream sent more than {MAX_CHOICES} choices.")
                self._seen_choices.add(choice.index)
                self._open_choices.add(choice.index)
                is_opening = True
            reason = choice.finish_reason
            if reason:
                self._open_choices.discard(choice.index)
                self.stop_reason = reason
            if choice.delta is None or reason == "":  # some servers send an empty reason all along
                are_whole = False
        return is_opening, are_whole

    def _regular(self, data: bytes, *, adds_role: bool) -> bytes:
        """The chunk rewritten: our identity, no usage, whole choices, and a role in deltas that open an answer without one."""
        try:
            document = jsonio.decode(data)
        except BadRequest as error:  # nested a little less deeply than would have shown before
            raise UpstreamBroken(f"The upstream sent an event that is not a chunk: {error.message}") from error
        rest = {key: value for key, value in document.items() if key not in _IDENTITY_KEYS and key != "usage"}
        role = {"role": "assistant"} if adds_role else {}
        rest["choices"] = [
            {**choice, "delta": {**(choice.get("delta") or {}), **role}, "finish_reason": choice.get("finish_reason") or None}
            for choice in rest["choices"]
        ]
        return jsonio.encode({**self._head(), **rest})

    def _head(self) -> dict[str, Any]:
        assert self._identity is not None
        return dict(zip(_IDENTITY_KEYS, (self._identity[0], self.OBJECT, self._identity[1], self.ctx.alias), strict=True))

    def _usage_chunk(self, usage: Mapping[str, Any]) -> bytes:
        return jsonio.encode({**self._head(), "choices": [], "usage": with_cost(usage, self.ctx)})


_IDENTITY_KEYS = ("id", "object", "created", "model")


def _written_model(data: bytes, model: str | None) -> bytes:
    """`"model": "name"` as this upstream writes it, or nothing. A key can't occur within a JSON string, where its quotes are escaped."""
    if model is None:
        return b""
    match = re.search(rb'"model"\s*:\s*' + re.escape(jsonio.encode(model)), data)
    return match[0] if match else b""


def translate_request(envelope: Envelope, ctx: TranslationContext) -> TranslatedRequest:
    """The client's body for this upstream (see `Translator.request`)."""
    changes: dict[str, bytes] = {"model": jsonio.encode(ctx.target)}
    unknown = ctx.refused_parameters if ctx.sends_usage_option else ctx.refused_parameters | {"stream_options"}
    refused = [name for name in sorted(unknown) if name in envelope]
    notes = [f"dropped={name}" for name in refused]
    if "max_tokens" in refused and "max_completion_tokens" not in {*envelope, *unknown}:
        changes["max_completion_tokens"] = envelope["max_tokens"]  # reasoning models of OpenAI know the newer spelling only
    if "max_completion_tokens" in refused and "max_tokens" not in {*envelope, *unknown}:
        changes["max_tokens"] = envelope["max_completion_tokens"]  # others the older one
    if refused:
        envelope = envelope.without(refused)
    if ctx.is_stream and "stream_options" not in unknown:
        options = envelope.value("stream_options") or {}
        if not isinstance(options, dict):
            raise BadRequest("'stream_options' must be an object.", param="stream_options")
        changes["stream_options"] = jsonio.encode({**options, "include_usage": True})
    removed: set[str] = set()
    unwanted = ctx.unwanted_fields | (NESTED & ctx.refused_parameters)
    if any(b'"%s"' % name.encode() in envelope.body for name in unwanted):
        for key in ("messages", "tools"):
            document = envelope.value(key)
            if found := _remove(document, unwanted):
                changes[key] = jsonio.encode(document)
                removed |= found
    notes += [f"dropped={name}" for name in sorted(removed)]
    return TranslatedRequest(envelope.replaced(changes), notes=tuple(notes))


def _remove(document: Any, names: frozenset[str]) -> set[str]:
    """Take the keys `names` out of `document` (our own copy), and return those that there were.

    Everywhere but in a tool's schema, which is the client's. No recursion: a document may be nested as deeply as the parser allows.
    """
    removed: set[str] = set()
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += value
        elif isinstance(value, dict):
            for name in names & value.keys():
                del value[name]
                removed.add(name)
            rest += [item for key, item in value.items() if key != "parameters"]
    return removed


def translate_answer(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """A whole answer, its model's name replaced (see `Translator.response`). Errors: any `UpstreamError`."""
    try:
        answer = Envelope(body)
        error = answer.value("error")
        choices = _decode_choices(answer.get("choices", b"null"))
        usage = answer.value("usage")
        has_id = isinstance(answer.value("id"), str)
    except BadRequest as cause:
        raise UpstreamBroken(f"The upstream's answer is not a completion: {cause.message}") from cause
    except (msgspec.ValidationError, RecursionError):
        choices = []
    if error is not None:
        raise event_error(error, ctx.upstream_name)
    if not choices:
        raise UpstreamBroken("The upstream's answer has no choices.")
    changes = {"model": jsonio.encode(ctx.alias)}
    notes: tuple[str, ...] = ()
    reason = choices[0].finish_reason
    if not isinstance(reason, str) or not reason:
        whole, reason = _with_reasons(answer.value("choices"))
        changes["choices"], notes = jsonio.encode(whole), (NOTE,)
    if not has_id:
        changes["id"] = jsonio.encode(ctx.completion_id)
    counted = usage_of(usage) if isinstance(usage, dict) else None
    if not (counted and counted.prompt_tokens) and ctx.count_prompt is not None:
        counted = estimated_usage(ctx.count_prompt(), len(answer["choices"]))
        usage = estimate_object(counted)
    if isinstance(usage, dict):
        changes["usage"] = jsonio.encode(with_cost(usage, ctx, counted))
    return TranslatedAnswer(answer.replaced(changes), counted, reason, notes)


def _with_reasons(choices: Sequence[Any]) -> tuple[list[Any], str]:
    """Choices of a whole answer, each with a reason for its end, and the first one's. `UpstreamBroken` where there is no telling it."""
    rows = []
    for choice in choices:
        message = choice.get("message") if isinstance(choice, dict) else None
        reason = (choice.get("finish_reason") or reason_of_message(message)) if isinstance(message, dict) else None
        if not isinstance(reason, str):
            raise UpstreamBroken("The upstream's answer has no finish_reason.")
        rows.append({**choice, "finish_reason": reason})
    return rows, rows[0]["finish_reason"]


OPENAI_OPENAI = Translator(request=translate_request, response=translate_answer, stream=PassthroughStream, error=error_of)
