"""OpenAI's Responses API to an upstream of the same: bytes pass, and only what must differ is changed.

Request: the model's name. The bytes around it stay, unknown items, tools and fields among them. Reasoning that was sealed here is taken
out, for no other service can open it; all of it, where the upstream refused what another account sealed: then the ids of the model's items
go as well, which would tell that reasoning is missing. Answer: the model's name is the one that the client asked for. Events pass as they
came; they are looked at for counts and for the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from compat import jsonio
from compat.errors import BadRequest, GatewayError, UpstreamBroken
from compat.protocols.base import StreamTranslator, TranslatedAnswer, TranslatedRequest, TranslationContext, Translator
from compat.protocols.refusals import REASONING_ITEMS, is_endpoint
from compat.protocols.responses.compaction import ITEM
from compat.protocols.responses.input_items import OPENING, has_conversation, head_of, list_of, user_item
from compat.protocols.responses.open_item import is_whole
from compat.protocols.responses.refusals import refused_part
from compat.protocols.responses.shapes import Answer, ResponseEvent, decode_event, read_answer
from compat.protocols.responses.words import answer_error, usage_of
from compat.protocols.sealed import PREFIX, Sealer, is_ours
from compat.protocols.summaries import INTRODUCTION, summary_in
from compat.protocols.upstream_errors import error_fields
from compat.protocols.upstream_protocol import error_of
from compat.wire.envelope import Envelope, raw_items
from compat.wire.estimate import estimated_usage
from compat.wire.sse import blocks_of, parse_event
from compat.wire.usage import Usage

_OURS = b'"' + PREFIX.encode()
_THEIRS = frozenset({"reasoning", "message", "function_call", "custom_tool_call", "tool_search_call", "web_search_call"})
"""Types of items that a model makes."""
_DELTA = re.compile(rb"(?:\A|\n\n)event: ?response\.[a-z_.]+\.delta\n")
_DELTA_BYTES = 180
"""Of an event with a piece of text, besides the piece."""
_SAID = frozenset({"message", "reasoning"})
_ENDS = {"response.completed": "completed", "response.incomplete": "incomplete"}


def translate_request(envelope: Envelope, ctx: TranslationContext) -> TranslatedRequest:
    """See `Translator.request`."""
    changes = {"model": jsonio.encode(ctx.target)}
    notes: tuple[str, ...] = ("repaired=surrogates",) if envelope.was_repaired else ()
    notes += ("default=model",) if envelope.is_missing("model") else ()
    if not has_conversation(envelope):
        changes["input"] = jsonio.encode(OPENING)
        notes += ("default=input",)
    items = envelope.get("input", b"")
    takes_all = REASONING_ITEMS in ctx.refused_parameters
    if items.startswith(b"[") and (takes_all or _OURS in items):
        given = raw_items(items)
        opened = list(_with_summaries(given, ctx.sealer))
        kept = list(_without_reasoning(opened, takes_all=takes_all))
        changes["input"] = list_of(kept)
        lost = (("dropped=summary", len(given) - len(opened)), ("thinking=omitted", len(opened) - len(kept)))
        notes += tuple(f"{what}({count})" for what, count in lost if count)
    return TranslatedRequest(envelope.replaced(changes), {}, notes)


def _without_reasoning(items: Iterable[bytes], *, takes_all: bool) -> Iterator[bytes]:
    """The items without reasoning that is sealed here, or without any. What stays keeps its bytes."""
    for raw in items:
        item = head_of(raw)
        if item.type == "reasoning":
            if not takes_all and not is_ours(item.encrypted_content or ""):
                yield raw
        elif takes_all and item.type in _THEIRS and item.role in (None, "assistant"):
            yield Envelope(raw).without(["id"]).body
        else:
            yield raw


def _with_summaries(items: Iterable[bytes], sealer: Sealer | None) -> Iterator[bytes]:
    """The items with summaries that are sealed here as words; those that can't be opened are left out."""
    for raw in items:
        item = head_of(raw)
        seal = item.encrypted_content or ""
        if item.type != ITEM or not is_ours(seal):
            yield raw
        elif words := summary_in(seal, sealer):
            yield user_item(jsonio.encode([{"type": "input_text", "text": INTRODUCTION + words}]))


def translate_answer(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """A whole answer, its model's name replaced. Errors: any `UpstreamError`."""
    answer = read_answer(body)
    if answer.error is not None or answer.status == "failed":
        raise answer_error(answer.error, ctx.upstream_name)
    if answer.output is None:
        raise UpstreamBroken("The upstream's answer has no output.")
    return TranslatedAnswer(_named(body, ctx.alias), usage_of(answer.usage), _reason(answer))


def _reason(answer: Answer) -> str:
    """Why an answer ended: what it is incomplete for, else its status."""
    details = answer.incomplete_details
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) and reason else answer.status or "completed"


def _named(response: bytes, alias: str) -> bytes:
    """An answer under the client's name of the model."""
    envelope = _envelope(response)
    return envelope.replaced({"model": jsonio.encode(alias)}) if "model" in envelope else response


def _envelope(text: bytes) -> Envelope:
    try:
        return Envelope(text)
    except BadRequest as error:
        raise UpstreamBroken(f"The upstream's answer is not a response: {error.message}") from error


class RelayStream(StreamTranslator):
    """Events of an upstream of the same protocol, forwarded as they came."""

    def __init__(self, ctx: TranslationContext) -> None:
        super().__init__(ctx)
        self._delta_bytes = 0
        self._open_calls: dict[int | None, list[str]] = {}
        self._pieces: list[bytes] = []

    def translate_known(self, text: bytes) -> bytes | None:
        """Pieces of content are nobody's business here."""
        deltas = len(_DELTA.findall(text))
        if deltas != text.count(b"\n\n") + 1 or self.is_finished:
            return None
        self._delta_bytes += max(len(text) - _DELTA_BYTES * deltas, 0)
        if self._open_calls:
            self._pieces.append(text)
        return text + b"\n\n"

    def translate_event(self, block: bytes) -> bytes:
        """The event, which is looked at. Errors: any `UpstreamError`."""
        data = parse_event(block).data
        if self.is_finished:  # some servers have a mark of another protocol behind it
            return b""
        if not data:
            return block + b"\n\n"
        event = _decoded(block)
        kind = event.type
        if kind in ("error", "response.failed") or (event.error is not None and not kind):
            raise self._failure(event, data)
        if kind.endswith(".delta"):
            self.is_committed = self.knows = True
            self._delta_bytes += max(len(block) - _DELTA_BYTES, 0)
            if self._open_calls:
                self._pieces.append(block)
        elif kind.startswith("response.output_item."):
            self._item(event)
        if kind in _ENDS:
            self._ended(event)
        return block + b"\n\n" if bytes(event.response) == b"{}" else self._renamed(data, kind)

    def _failure(self, event: ResponseEvent, data: bytes) -> GatewayError:
        if event.type == "response.failed":
            return answer_error(read_answer(event.response).error, self.ctx.upstream_name)
        return answer_error(error_fields(data), self.ctx.upstream_name)

    def _item(self, event: ResponseEvent) -> None:
        """An item begins or is complete. The opening of what is said is no content yet."""
        if event.type.endswith("done"):
            self._open_calls.pop(event.output_index, None)
            if not self._open_calls:
                self._pieces.clear()
        elif (event.item or {}).get("type") == "function_call":
            self._open_calls[event.output_index] = []
        elif (event.item or {}).get("type") in _SAID:
            return
        self.is_committed = True

    def _check_calls(self) -> None:
        """`UpstreamBroken` where the arguments of a call that was not said to be complete are not whole."""
        for event in map(_decoded, blocks_of(b"\n\n".join(self._pieces))):
            call = self._open_calls.get(event.output_index)
            if call is not None and isinstance(event.delta, str):
                call.append(event.delta)
        if not all(map(is_whole, self._open_calls.values())):
            raise UpstreamBroken("The upstream ended its answer within a tool call.")

    def _ended(self, event: ResponseEvent) -> None:
        answer = read_answer(event.response)
        if self._open_calls and event.type == "response.completed":
            self._check_calls()
        self.usage = usage_of(answer.usage) or self.usage_so_far()
        answer.status = answer.status or _ENDS[event.type]
        self.stop_reason = _reason(answer)
        self.is_finished = self.is_committed = True

    def _renamed(self, data: bytes, kind: str) -> bytes:
        """An event that holds the answer so far, under the client's name of the model."""
        envelope = _envelope(data.replace(b"\n", b" "))
        response = _named(envelope["response"], self.ctx.alias)
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), envelope.replaced({"response": response}))

    def translate_end(self) -> bytes:
        """Nothing: the client has the end. Errors: `UpstreamBroken` where it did not come."""
        if not self.is_finished:
            raise UpstreamBroken("The upstream ended its answer without a response.completed.")
        return b""

    def usage_so_far(self) -> Usage:
        """See `StreamTranslator`."""
        if self.usage is not None:
            return self.usage
        return estimated_usage(self.ctx.prompt_tokens(), self._delta_bytes)


def _decoded(block: bytes) -> ResponseEvent:
    try:
        return decode_event(parse_event(block).data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"The upstream sent an invalid event: {error}.") from error


def refused(error: GatewayError) -> str | None:
    """What the call can do without, and its client does not know it: reasoning of another account; and the API itself, where the upstream
    has another."""
    name = refused_part(error)
    return name if name is not None and (name == REASONING_ITEMS or is_endpoint(name)) else None


RESPONSES_RESPONSES = Translator(
    request=translate_request,
    response=translate_answer,
    stream=RelayStream,
    error=error_of,
    refused=refused,
    endpoint="openai.responses",
)
