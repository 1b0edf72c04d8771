"""Compaction: a conversation made short when its client asks, and read again from then on.

    {"type": "compaction_trigger"}                          the last item: answer with exactly one item, which stands for all before it
    {"type": "compaction", "encrypted_content": "..."}      that item, in the answer and in later input
    POST /v1/responses/compact                              the same by a URL of its own, as older versions of Codex ask

An upstream that compacts gets the trigger as it is. Where there is none the model itself writes a summary, as the next turn of the same
conversation: with its tools and all that is before, so that the prompt cache is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from compat import jsonio
from compat.errors import BadRequest, GatewayError, UpstreamBroken
from compat.protocols.base import TranslationContext, Translator
from compat.protocols.client_protocol import model_of
from compat.protocols.events import Event, TextDelta, Used
from compat.protocols.joined import FrameWriter
from compat.protocols.notes import Notes
from compat.protocols.responses.input_items import OPENING, ItemHead, head_of, items_of, list_of, listed, user_item
from compat.protocols.responses.items import frame
from compat.protocols.responses.response_object import ResponseHead, usage_object
from compat.protocols.summaries import sealed_summary
from compat.wire.envelope import Envelope, raw_items
from compat.wire.usage import Usage, cost_of

ITEM = "compaction"
TRIGGER = "compaction_trigger"
MARK = f"input.{TRIGGER}"
"""How it is remembered that a deployment compacts nothing."""
PROMPT = """\
The conversation is about to continue without what came before: only what you write now will be known of it.
Write that for whoever takes over, and call no tools. Be exact and brief:

- what the user wants, word for word where the words matter, with every constraint and preference
- what is done, and what was found: files with their paths, decisions with their reasons, commands with what they gave
- what is not done yet, and the very next step
- what must not be tried again, and why
"""
_TRIGGER_ITEM = jsonio.encode({"type": TRIGGER})


def is_trigger(item: Any) -> bool:
    """Whether an item asks for compaction."""
    return isinstance(item, dict) and item.get("type") == TRIGGER


def asks(envelope: Envelope) -> bool:
    """Whether a request asks for compaction: by the last item of its input."""
    text = envelope.get("input", b"")
    return b'"compaction_trigger"' in text and text.startswith(b"[") and is_trigger(jsonio.decode(raw_items(text)[-1]))


def triggered(envelope: Envelope) -> Envelope:
    """The call that a request of `POST /v1/responses/compact` stands for. Errors: `BadRequest`."""
    model_of(envelope)
    items = (user_item(jsonio.encode(OPENING)),) if envelope.is_missing("input") else items_of(envelope)
    if not items:
        raise BadRequest("'input' must hold at least one item.", param="input")
    return Envelope(envelope.without({"stream"}).replaced({"input": list_of((*items, _TRIGGER_ITEM))}))


def compacted(envelope: Envelope, body: bytes) -> bytes:
    """The answer of that URL: the user's messages, and the one item that stands for the rest. Errors: `UpstreamBroken`."""
    answer = jsonio.decode(body)
    made = [item for item in answer.get("output") or () if isinstance(item, dict) and item.get("type") == ITEM]
    if len(made) != 1:
        raise UpstreamBroken("The upstream did not compact the conversation.")
    told = {"id": answer.get("id"), "object": "response.compaction", "created_at": answer.get("created_at")}
    plain_id = str(answer.get("id")).removeprefix("resp_")
    given = raw_items(envelope.get("input", b""))
    users = [listed(raw, f"msg_{plain_id}_{number}") for number, raw in enumerate(given) if _is_users(head_of(raw))]
    return jsonio.encode({**told, "output": [*users, *made], "usage": answer.get("usage")})


def _is_users(head: ItemHead) -> bool:
    return head.role == "user" and head.type == "message"


class CompactionWriter(FrameWriter):
    """Writes an answer whose words are the summary as one sealed item. It shows nothing before its end, so that another upstream may be
    asked until then. Mutable: the words so far, and what they took."""

    def __init__(self, ctx: TranslationContext, _: Notes) -> None:
        self._ctx = ctx
        self._words: list[str] = []
        self._usage: Mapping[str, Any] = usage_object(Usage(), 0)

    def write(self, event: Event) -> bytes:
        """See `FrameWriter`."""
        if isinstance(event, TextDelta):
            self._words.append(event.text)
        elif isinstance(event, Used):
            self._usage = usage_object(event.usage, cost_of(event.usage, self._ctx.model.price))
        return b""

    def finish(self) -> bytes:
        """See `FrameWriter`. Errors: `UpstreamBroken` where the model said nothing."""
        item, head = self._item(), self._head
        begun, place = {"response": head.encoded("in_progress")}, {"output_index": 0, "item": item}
        events: Sequence[tuple[str, Mapping[str, Any]]] = (
            ("response.created", begun),
            ("response.in_progress", begun),
            ("response.output_item.added", place),
            ("response.output_item.done", place),
            ("response.completed", {"response": head.encoded("completed", [item], self._usage, now_s=self._ctx.now_s)}),
        )
        return b"".join(frame(name, fields, number) for number, (name, fields) in enumerate(events))

    def body(self, events: Iterable[Event]) -> bytes:
        """See `FrameWriter`. Errors: as of `finish`."""
        for event in events:
            self.write(event)
        return bytes(self._head.encoded("completed", [self._item()], self._usage, now_s=self._ctx.now_s))

    @property
    def _head(self) -> ResponseHead:
        ctx = self._ctx
        return ResponseHead.of(ctx.completion_id, ctx.created_s, ctx.alias, ctx.memory.echoed)

    def _item(self) -> dict[str, Any]:
        words = "".join(self._words).strip()
        if not words:
            raise UpstreamBroken(f"{self._ctx.upstream_name} wrote no summary of the conversation.")
        self.reason = "completed"
        plain_id = self._ctx.completion_id.removeprefix("resp_")
        return {"id": f"cmp_{plain_id}", "type": ITEM, "encrypted_content": sealed_summary(words, self._ctx.sealer)}


def compacting(relay: Translator, translated: Translator) -> Translator:
    """A relay that leaves compaction to a translation, at services that were seen to refuse it."""

    def refused(error: GatewayError) -> str | None:
        return MARK if TRIGGER in error.message else relay.refused(error)

    return replace(
        relay,
        request=lambda envelope, ctx: (translated if MARK in ctx.refused_parameters and asks(envelope) else relay).request(envelope, ctx),
        response=lambda body, ctx: (translated if ctx.memory.summarises else relay).response(body, ctx),
        stream=lambda ctx: (translated if ctx.memory.summarises else relay).stream(ctx),
        refused=refused,
    )
