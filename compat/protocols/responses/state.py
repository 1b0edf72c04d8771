"""Answers that are stored: what a request asks of a store, the call that goes on from an answer, and the object as its client sees it.

    {"store": true}                          the answer is kept, unless the client says not to
    {"previous_response_id": "resp_..."}     what was said up to the end of that answer goes before the new input
    {"background": true}                     the answer is made without the client, who asks for it later

No upstream is asked to store anything: reasoning comes sealed, so that an answer can be gone on from wherever it was made. Source: OpenAI's
reference of the Responses API (`create`, `retrieve`, `cancel`, `input_items`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import BadRequest, NotFound
from compat.protocols.responses.client_request import echoed_of
from compat.protocols.responses.compaction import ITEM
from compat.protocols.responses.input_items import head_of, items_of, list_of
from compat.protocols.responses.input_items import listed as listed_item
from compat.protocols.responses.parts import SEALED
from compat.protocols.responses.response_object import ResponseHead
from compat.wire.envelope import Envelope, raw_items
from compat.wire.sse import blocks_of, parse_event

ENDS = frozenset({"completed", "incomplete", "failed", "cancelled"})
MOST_LISTED = 100
_TOLD = re.compile(rb"(?:\A|\n\n)event: response\.(?:created|queued|in_progress|completed|incomplete|failed)\n")
_BESIDE = frozenset({"previous_response_id", "background", "store"})
_OUTPUTS: Mapping[str, str] = {
    "function_call_output": "function call",
    "custom_tool_call_output": "custom tool call",
}


class Wish(msgspec.Struct, frozen=True):
    """What a request asks of a store. `previous` is the answer that it goes on from; `items` are those of its own input."""

    stores: bool = False
    is_background: bool = False
    is_stream: bool = False
    previous: str = ""
    items: tuple[bytes, ...] = ()


class Listing(msgspec.Struct, frozen=True):
    """Which items a client wants to see: how many, from which on, and whether the newest come first."""

    limit: int = 20
    after: str = ""
    is_newest_first: bool = True


class _Numbered(msgspec.Struct, frozen=True):
    """What is read of an event."""

    sequence_number: int = 0


_numbered = msgspec.json.Decoder(_Numbered).decode


def wish_of(envelope: Envelope) -> Wish:
    """What the request asks. Errors: `BadRequest`."""
    previous, background, store = (envelope.value(name) for name in ("previous_response_id", "background", "store"))
    if previous is not None and not isinstance(previous, str):
        raise BadRequest("'previous_response_id' must be a string.", param="previous_response_id")
    for name, value in (("background", background), ("store", store)):
        if value is not None and not isinstance(value, bool):
            raise BadRequest(f"'{name}' must be true or false.", param=name)
    if background and store is False:
        raise BadRequest("Background responses must be stored: leave 'store' out.", param="background")
    return Wish(store is not False, bool(background), envelope.value("stream") is True, previous or "", items_of(envelope))


def not_found(answer_id: str) -> NotFound:
    """There is no such answer, in OpenAI's words."""
    return NotFound(f"Response with id '{answer_id[:100]}' not found.", code="response_not_found")


def gone_on(envelope: Envelope, before: Sequence[bytes], items: Sequence[bytes]) -> Envelope:
    """The call with `before` in front of its own `items`, so that nothing need be stored and the next call can go on from its answer.

    Errors: `BadRequest` for the result of a call that nobody made.
    """
    if before:
        check_outputs(before, items)
    changes = {"store": b"false", **sealing(envelope)}
    if before or items:
        changes["input"] = list_of((*before, *items))
    return Envelope(envelope.without(_BESIDE).replaced(changes))


def sealing(envelope: Envelope) -> dict[str, bytes]:
    """The change by which the answer's reasoning comes sealed, so that the next call may go on from it."""
    include = envelope.value("include")
    wanted = include if isinstance(include, list) else []
    return {} if SEALED in wanted else {"include": jsonio.encode([*wanted, SEALED])}


def check_outputs(before: Sequence[bytes], items: Sequence[bytes]) -> None:
    """Whether each result among `items` is of a call that was made. Errors: `BadRequest`."""
    own = [head_of(item) for item in items]
    made = {item.call_id for item in (*map(head_of, before), *own) if (item.type or "").endswith("_call")}
    for item in own:
        kind = _OUTPUTS.get(item.type or "")
        if kind is not None and item.call_id is not None and item.call_id not in made:
            raise BadRequest(f"No tool call found for {kind} output with call_id {item.call_id[:100]}.", param="input")


def said_in(items: bytes, body: bytes) -> tuple[list[bytes], bool]:
    """The items of an answer's input and output; and whether they stand for all that was before: the answer made it short."""
    said = raw_items(Envelope(body).get("output", b"[]"))
    kinds = [head_of(item).type for item in said]
    if ITEM in kinds:
        return said[kinds.index(ITEM) :], True
    return [*raw_items(items), *said], False


def retold(frames: bytes, tell: Callable[[str, bytes], bytes]) -> bytes:
    """The frames of an answer, the response objects in them as `tell(status, object)` has them."""
    if _TOLD.search(frames) is None:
        return frames
    return b"".join([_retold(block, tell) for block in blocks_of(frames)])


def _retold(block: bytes, tell: Callable[[str, bytes], bytes]) -> bytes:
    if _TOLD.match(block) is None:
        return block + b"\n\n"
    event = parse_event(block)
    envelope = Envelope(event.data)
    response = tell(event.name.decode().removeprefix("response."), envelope["response"])
    return b"event: %s\ndata: %s\n\n" % (event.name, envelope.replaced({"response": response}))


def changed(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """A response object with other values in these fields."""
    return Envelope(body).replaced({name: jsonio.encode(value) for name, value in fields.items()})


def status_of(body: bytes) -> str:
    """How far an answer is."""
    return str(Envelope(body).value("status", ""))


def queued(answer_id: str, created_s: int, model: str, envelope: Envelope) -> bytes:
    """The object of an answer that is not begun."""
    return bytes(ResponseHead.of(answer_id, created_s, model, echoed_of(envelope)).encoded("queued"))


def later(frames: bytes, after: int) -> bytes:
    """The frames whose number is greater."""
    return b"".join([block + b"\n\n" for block in blocks_of(frames) if _number(block) > after])


def _number(block: bytes) -> int:
    """An event's number; -1 for a comment."""
    data = parse_event(block).data
    return _numbered(data).sequence_number if data else -1


def listing_of(query: Mapping[str, str]) -> Listing:
    """What the query of a URL asks for. Errors: `BadRequest`."""
    limit, order = query.get("limit", "20"), query.get("order", "desc")
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= len(str(MOST_LISTED)) and 1 <= int(limit) <= MOST_LISTED):
        raise BadRequest(f"'limit' must be a number from 1 to {MOST_LISTED}.", param="limit")
    if order not in ("asc", "desc"):
        raise BadRequest("'order' must be asc or desc.", param="order")
    return Listing(int(limit), query.get("after", ""), order == "desc")


def starting_after(query: Mapping[str, str]) -> int:
    """The number of the event behind which a stream is to begin; -1 for all. Errors: `BadRequest`."""
    number = query.get("starting_after", "")
    if number and not (number.isascii() and number.isdecimal() and len(number) < 16):
        raise BadRequest("'starting_after' must be the number of an event.", param="starting_after")
    return int(number) if number else -1


def listed(answer_id: str, items: bytes, wanted: Listing) -> bytes:
    """The items of an answer's own input as a list that is read in pages. Errors: `BadRequest` where `after` is none of them."""
    plain_id = answer_id.removeprefix("resp_")
    found = [listed_item(raw, f"item_{plain_id}_{number}") for number, raw in enumerate(raw_items(items)) if raw.startswith(b"{")]
    if wanted.is_newest_first:
        found.reverse()
    ids = [item["id"] for item in found]
    if wanted.after and wanted.after not in ids:
        raise BadRequest(f"No item with id '{wanted.after[:100]}' found.", param="after")
    first = ids.index(wanted.after) + 1 if wanted.after else 0
    shown = found[first : first + wanted.limit]
    ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
    return jsonio.encode({"object": "list", "data": shown, **ends, "has_more": first + len(shown) < len(found)})
