"""Items of a request's input as they were written: what tells them apart is read, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import BadRequest
from compat.wire.envelope import Envelope, raw_items

OPENING = "(The conversation begins here.)"
"""The user's words where a request has no input: no service answers without any."""
_CONVERSATION = ("input", "previous_response_id", "prompt", "conversation")


class ItemHead(msgspec.Struct, frozen=True):
    """What tells what an item is, and whose."""

    type: str | None = "message"
    role: str | None = None
    call_id: str | None = None
    encrypted_content: str | None = None


_decode = msgspec.json.Decoder(ItemHead).decode
_NO_ITEM = ItemHead(type=None)


def head_of(item: bytes) -> ItemHead:
    """The head of an item; one without a type where it is none."""
    try:
        return _decode(item)
    except msgspec.DecodeError:
        return _NO_ITEM


def has_conversation(envelope: Envelope) -> bool:
    """Whether a request says or names what is to be answered."""
    return not all(map(envelope.is_missing, _CONVERSATION))


def items_of(envelope: Envelope) -> tuple[bytes, ...]:
    """The items of a request's input, each as it was written; a text is the user's. Errors: `BadRequest`."""
    if envelope.starts_with("input", b"["):
        return tuple(raw_items(envelope["input"]))
    if envelope.starts_with("input", b'"'):
        return (user_item(envelope["input"]),)
    if not envelope.is_missing("input"):
        raise BadRequest("'input' must be a string or a list of items.", param="input")
    return ()


def user_item(content: bytes) -> bytes:
    """The item of a user who says this, as JSON."""
    return b'{"type":"message","role":"user","content":%s}' % content


def list_of(items: Iterable[bytes]) -> bytes:
    """The list of these items, as JSON."""
    return b"[%s]" % b",".join(items)


def listed(raw: bytes, item_id: str) -> dict[str, Any]:
    """An item as lists of items have it: with an id, and a message in parts."""
    item: dict[str, Any] = {"id": item_id, **jsonio.decode(raw)}
    item["id"] = str(item["id"] or item_id)
    if item.setdefault("type", "message") == "message":
        item.setdefault("status", "completed")
        if isinstance(item.get("content"), str):
            item["content"] = [{"type": "output_text" if item.get("role") == "assistant" else "input_text", "text": item["content"]}]
    return item
