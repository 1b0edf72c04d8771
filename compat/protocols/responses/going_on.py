"""Answers of the Responses protocol that are carried on, or given again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from compat import jsonio
from compat.protocols.client_protocol import Identity, Rescue, Said, continued
from compat.protocols.events import BlockStart, Event, Start, Stop, TextDelta, ThinkingDelta, Used
from compat.protocols.joined import FrameWriter
from compat.protocols.notes import Notes
from compat.protocols.responses.input_items import OPENING, has_conversation, items_of, list_of, user_item
from compat.protocols.responses.items import Place
from compat.protocols.responses.response_object import told_cost
from compat.protocols.responses.writer import ResponsesWriter
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage


def again(said: Sequence[Said], identity: Identity) -> bytes:
    """A whole answer once more."""
    given = replace(identity, now=lambda: identity.created_s)
    return ResponsesWriter(given.context(), Notes()).body(_said(said))


def _said(said: Sequence[Said]) -> Iterator[Event]:
    yield Start()
    for one in said[:1]:
        if one.thinking:
            yield from (BlockStart(0, "thinking"), ThinkingDelta(0, one.thinking))
        yield from (BlockStart(1, "text"), TextDelta(1, one.text))
    yield from (Stop("end"), Used(Usage()))


def _may(envelope: Envelope) -> bool:
    """Not one that must be JSON: a second attempt would decide its structure from the start."""
    text = envelope.value("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    return not isinstance(wanted, dict) or wanted.get("type") in (None, "text")


def _asks_thinking(envelope: Envelope) -> bool:
    reasoning = envelope.value("reasoning")
    return isinstance(reasoning, dict) and reasoning.get("effort") != "none"


def _rest(envelope: Envelope, text: str, tokens: int, words: str) -> Envelope:
    items = [_message("assistant", "output_text", text)]
    if words:
        items.append(_message("user", "input_text", words))
    given = items_of(envelope) if has_conversation(envelope) else (user_item(jsonio.encode(OPENING)),)
    changes = {"input": list_of((*given, *map(jsonio.encode, items)))}
    return continued(envelope, changes, ("max_output_tokens",), tokens)


def _message(role: str, part: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": part, "text": text}]}


def _going_on(identity: Identity, _: bool) -> FrameWriter:  # one of `Rescue.going_on`
    place = identity.place if isinstance(identity.place, Place) else Place()
    return ResponsesWriter.going_on(replace(identity, echoed=place.echoed).context(), place)


def _with_spent(told: Any, _: Usage, cost_usd: float) -> Any:
    """The counts are added by who writes them; so is the cost where there is one."""
    cost = told_cost(told)
    return told if cost is None else {**told, "cost_details": {**told["cost_details"], "upstream_inference_cost": cost + cost_usd}}


RESCUE = Rescue(_may, _asks_thinking, _rest, _going_on, _with_spent)
