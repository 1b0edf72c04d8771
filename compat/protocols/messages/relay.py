"""Anthropic's Messages to an upstream of the same wire API: bytes pass, and only what must differ is changed.

Request: the model's name, and for services that are only like Anthropic's, what they don't take (`messages/subset`). The bytes around
it stay, for JSON that is written anew moves prompt caches and spoils signatures (ticket CLIProxyAPI#2172); so do unknown fields, and
headers of the protocol. Thoughts that were sealed here, or that nobody signed, are taken out: the upstream would refuse them. It never
saw one, so that what it bound to a history was bound to one without them. Answer: the model's name is the one that the client asked for.
Events pass as they came, pings and unknown ones included; they are looked at for counts and for the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import BadRequest, GatewayError, UpstreamBroken, UpstreamRefusal
from compat.protocols.base import StreamTranslator, TranslatedAnswer, TranslatedRequest, TranslationContext, Translator
from compat.protocols.messages.own_searches import has_own, without_own
from compat.protocols.messages.shapes import API, MessageEvent, decode_event, read_answer
from compat.protocols.messages.subset import fitted
from compat.protocols.messages.words import raise_counts, read_counts, usage_of, usage_of_part
from compat.protocols.messages.writer import STOP
from compat.protocols.refusals import refused_parameter
from compat.protocols.sealed import PREFIX
from compat.protocols.upstream_errors import event_error, refusal_of
from compat.wire.envelope import Envelope, raw_items
from compat.wire.sse import parse_event
from compat.wire.usage import Usage

LOST = "messages.thinking"
"""Refused for the thoughts in a history: signatures of another account or model, or none where one must be."""

ROLE = "messages.role"
"""Instructions between messages, which older models don't take."""
QUERIES = frozenset({"beta=true"})
"""Of Anthropic's SDKs, on calls of their `beta` part: Claude Code's are."""
BAD_REQUEST = 400
_OF_TURN = re.compile(r"messages\.\d+\.output_config\b")
"""Of instructions between messages, too: the effort from there on."""
_ADAPTIVE = frozenset({"thinking.adaptive", "thinking"})
_EFFORT = "output_config.effort"
_SYSTEM = b'"system"'
_OF_PROTOCOL = "anthropic-"
_OURS = b'"' + PREFIX.encode()
_UNSIGNED = re.compile(rb'"signature"\s*:\s*""')
_THOUGHT = re.compile(rb'"(?:redacted_)?thinking"')
_DELTA = b"event: content_block_delta\n"
_DELTA_BYTES = 110
"""Of an event with a piece of text, besides the piece."""
_EMPTY = b'[{"type":"text","text":"(no content)"}]'


class _Thought(msgspec.Struct):
    """Of a block: what tells a thought."""

    type: Any = None
    signature: Any = ""
    data: Any = ""


_decode_block = msgspec.json.Decoder(_Thought).decode


def translate_request(envelope: Envelope, ctx: TranslationContext) -> TranslatedRequest:
    """See `Translator.request`."""
    changes = {"model": jsonio.encode(ctx.target)}
    notes: tuple[str, ...] = ("repaired=surrogates",) if envelope.was_repaired else ()
    is_lost = LOST in ctx.refused_parameters
    messages = envelope.get("messages", b"")
    if _OURS in messages or _UNSIGNED.search(messages) is not None or is_lost:
        changes["messages"], count = _without_thoughts(messages, takes_all=is_lost)
        notes += (f"thinking=omitted({count})",) if count else ()
    if has_own(messages):
        changes["messages"], count = without_own(changes.get("messages", messages))
        notes += (f"search=words({count})",) if count else ()
    if is_lost and _is_enabled(envelope):  # the turn that goes on would have to begin with a thought
        changes["thinking"] = b'{"type":"disabled"}'
        notes += ("thinking=off(lost)",)
    if ROLE in ctx.refused_parameters or ctx.subset is not None:
        changes["messages"], moved = _with_users(changes.get("messages", messages))
        notes += moved
    unwanted = _unwanted(envelope, ctx.refused_parameters, changes)
    notes += tuple(f"dropped={name}" for name in unwanted)
    envelope = envelope.without([name for name in unwanted if name in envelope]) if unwanted else envelope
    headers = {name: value for name, value in ctx.client_headers.items() if name.startswith(_OF_PROTOCOL)}
    request = TranslatedRequest(envelope.replaced(changes), headers, notes)
    return request if ctx.subset is None else fitted(request, ctx.subset)


def _with_users(messages: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The messages, whose instructions between others are words of the user's in a tag, and a note on each."""
    found = raw_items(messages)
    notes: list[str] = []
    for position, message in enumerate(found):
        parts = Envelope(message) if _SYSTEM in message else {}
        if not isinstance(parts, Envelope) or parts.value("role") != "system":
            continue
        content = parts.value("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else [{"text": content}]
        words = "\n\n".join(str(block.get("text") or "") for block in blocks)
        mark = next((block["cache_control"] for block in reversed(blocks) if block.get("cache_control")), None)
        marked = {} if mark is None else {"cache_control": mark}
        said = {"type": "text", "text": f"<system-reminder>\n{words}\n</system-reminder>", **marked}
        found[position] = jsonio.encode({"role": "user", "content": [said]})
        notes.append(f"moved=system@{position}")
    return (b"[%s]" % b",".join(found), tuple(notes)) if notes else (messages, ())


def _unwanted(envelope: Envelope, refused: frozenset[str], changes: dict[str, bytes]) -> list[str]:
    """Fields that the deployment was seen to refuse; what is left of one that it takes a part of is put into the changes."""
    unwanted = []
    if not refused.isdisjoint(_ADAPTIVE) and "thinking" in envelope and "thinking" not in changes:
        unwanted.append("thinking")
    config = envelope.value("output_config") if any(name.startswith(_EFFORT) for name in refused) else None
    if isinstance(config, dict) and "effort" in config:
        rest = {key: value for key, value in config.items() if key != "effort"}
        if rest:
            changes["output_config"] = jsonio.encode(rest)
        unwanted.append("output_config.effort" if rest else "output_config")
    return unwanted


def _is_enabled(envelope: Envelope) -> bool:
    thinking = envelope.value("thinking")
    return isinstance(thinking, dict) and thinking.get("type") == "enabled"


def _without_thoughts(messages: bytes, *, takes_all: bool) -> tuple[bytes, int]:
    """The messages without thoughts that are ours or unsigned, or without any; and how many were taken out. What stays keeps its bytes."""
    count = 0
    kept: list[bytes] = []
    for message in raw_items(messages):
        if not (_OURS in message or _UNSIGNED.search(message) is not None or (takes_all and _THOUGHT.search(message) is not None)):
            kept.append(message)
            continue
        parts = Envelope(message)
        blocks = raw_items(parts.get("content", b""))
        left = [block for block in blocks if not _is_taken(block, takes_all=takes_all)]
        count += len(blocks) - len(left)
        is_same = len(left) == len(blocks)
        kept.append(message if is_same else parts.replaced({"content": b"[%s]" % b",".join(left) if left else _EMPTY}))
    return (b"[%s]" % b",".join(kept), count) if count else (messages, 0)


def _is_taken(block: bytes, *, takes_all: bool) -> bool:
    try:
        found = _decode_block(block)
    except msgspec.DecodeError:
        return False
    if found.type == "redacted_thinking":
        return takes_all or str(found.data).startswith(PREFIX)
    return found.type == "thinking" and (takes_all or not found.signature or str(found.signature).startswith(PREFIX))


def translate_answer(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """A whole message, its model's name replaced. Errors: any `UpstreamError`."""
    answer = read_answer(body)
    if answer.type == "error" or answer.error is not None:
        raise event_error(answer.error, ctx.upstream_name)
    if answer.content is None:
        raise UpstreamBroken("The upstream's answer has no content.")
    return TranslatedAnswer(_named(body, ctx.alias), usage_of(read_counts(answer.usage)), answer.stop_reason)


def _named(message: bytes, alias: str) -> bytes:
    """A message under the client's name of the model. Errors: `UpstreamBroken`."""
    envelope = _envelope(message)
    return envelope.replaced({"model": jsonio.encode(alias)}) if "model" in envelope else message


def _envelope(message: bytes) -> Envelope:
    try:
        return Envelope(message)
    except BadRequest as error:
        raise UpstreamBroken(f"The upstream's answer is not a message: {error.message}") from error


class RelayStream(StreamTranslator):
    """Events of an upstream of the same protocol, forwarded as they came."""

    def __init__(self, ctx: TranslationContext) -> None:
        super().__init__(ctx)
        self._counts: dict[str, int] = {}
        self._delta_bytes = 0

    def translate_known(self, text: bytes) -> bytes | None:
        """Pieces of content are nobody's business here."""
        if not self.is_committed or not text.startswith(_DELTA):
            return None
        deltas = text.count(_DELTA)
        if deltas != text.count(b"\n\n") + 1:
            return None
        self._delta_bytes += max(len(text) - _DELTA_BYTES * deltas, 0)
        return text + b"\n\n"

    def translate_event(self, block: bytes) -> bytes:
        """The event, which is looked at. Errors: any `UpstreamError`."""
        data = parse_event(block).data
        if not data:
            return block + b"\n\n"
        try:
            event = decode_event(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamBroken(f"The upstream sent an invalid event: {error}.") from error
        match event.type:
            case "message_start":
                return self._begun(event, data)
            case "content_block_start":
                kind = (event.content_block or {}).get("type")
                self.is_committed = self.is_committed or kind not in ("text", "thinking")
            case "content_block_delta":
                self.is_committed = self.knows = True
                self._delta_bytes += max(len(block) - _DELTA_BYTES, 0)
            case "message_delta":
                self._ended(event)
            case "message_stop":
                if self.stop_reason is None:
                    raise UpstreamBroken("The upstream ended its answer without a stop_reason.")
                self.is_finished = True
                self.usage = usage_of(self._counts)
            case "error":
                raise event_error(event.error, self.ctx.upstream_name)
            case _ if event.error is not None:  # in OpenAI's shape, from a server that speaks both
                raise event_error(event.error, self.ctx.upstream_name)
        return block + b"\n\n"

    def _begun(self, event: MessageEvent, data: bytes) -> bytes:
        if event.message is None:
            raise UpstreamBroken("The upstream sent a message_start without a message.")
        self._counts = read_counts(event.message.get("usage"))
        envelope = _envelope(data)
        return b"event: message_start\ndata: %s\n\n" % envelope.replaced({"message": _named(envelope["message"], self.ctx.alias)})

    def _ended(self, event: MessageEvent) -> None:
        raise_counts(self._counts, event.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self.stop_reason = event.delta.stop_reason

    def translate_end(self) -> bytes:
        """The end mark, where only that is missing: the client has the reason, and all of the answer. Errors: `UpstreamBroken`."""
        if self.is_finished:
            return b""
        if self.stop_reason is None:
            raise UpstreamBroken("The upstream ended its answer without a message_stop.")
        self.usage = usage_of(self._counts)
        self.notes.append("message_stop=inferred")
        self.is_finished = True
        return STOP

    def usage_so_far(self) -> Usage:
        """See `StreamTranslator`."""
        return usage_of_part(self._counts, self._delta_bytes, self.ctx)


def translate_error(status: int, headers: Mapping[str, str], body: bytes, ctx: TranslationContext) -> GatewayError:
    """The error for a refused call, with the upstream's own body: clients match its words (see `Translator.error`)."""
    error = refusal_of(status, headers, body, ctx.upstream_name)
    if b'"error"' in body and _is_error(body):  # not one that was cut short, or is of another protocol
        error.verbatim = body
    return error


def _is_error(body: bytes) -> bool:
    try:
        document = jsonio.decode(body)
    except BadRequest:
        return False
    error = document.get("error") if isinstance(document, dict) and document.get("type") == "error" else None
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def refused(error: GatewayError) -> str | None:
    """What the call can do without, and its client does not know it: Claude Code goes by the model's name, which may be an alias of an
    older one. All else is for the client to leave out, who looks at the upstream's words."""
    if isinstance(error, UpstreamRefusal) and error.status == BAD_REQUEST and _OF_TURN.search(error.message) is not None:
        return ROLE
    name = refused_parameter(error)
    return name if name is not None and (name in _ADAPTIVE or name in (LOST, ROLE) or name.startswith(_EFFORT)) else None


MESSAGES_MESSAGES = Translator(
    request=translate_request,
    response=translate_answer,
    stream=RelayStream,
    error=translate_error,
    refused=refused,
    endpoint=API,
    queries=QUERIES,
)
