"""Searches that the gateway made blocks of, before a history goes to Anthropic: it takes its own only, so they become words."""

from __future__ import annotations

from typing import Any

from compat import jsonio
from compat.protocols.sealed import PREFIX, is_ours
from compat.protocols.served import SEARCH_ID, words_of
from compat.wire.envelope import Envelope, raw_items

_SEARCH = b'"' + SEARCH_ID.encode()
_SOURCE = b'"encrypted_index":"' + PREFIX.encode()


def has_own(messages: bytes) -> bool:
    """Whether there may be any."""
    return _SEARCH in messages or _SOURCE in messages


def without_own(messages: bytes) -> tuple[bytes, int]:
    """The messages with words in place of our searches, and how many blocks these were. What is not ours keeps its bytes."""
    count = 0
    kept = []
    for message in raw_items(messages):
        parts = Envelope(message) if has_own(message) else None
        blocks = raw_items(parts.get("content", b"")) if parts is not None else []
        said = [_words(block) if has_own(block) else block for block in blocks]
        changed = sum(one is not other for one, other in zip(said, blocks, strict=True))
        count += changed
        kept.append(parts.replaced({"content": b"[%s]" % b",".join(said)}) if parts is not None and changed else message)
    return (b"[%s]" % b",".join(kept), count) if count else (messages, 0)


def _words(raw: bytes) -> bytes:
    block: Any = jsonio.decode(raw)
    match block:
        case {"type": "server_tool_use", "id": str(own), "input": {"query": str(query)}} if own.startswith(SEARCH_ID):
            return _text(f"Searched the web for: {query}")
        case {"type": "web_search_tool_result", "tool_use_id": str(own)} if own.startswith(SEARCH_ID):
            return _text(words_of(block) or "Nothing was found.")
        case {"type": "text", "citations": list(citations)}:
            left = [one for one in citations if not (isinstance(one, dict) and is_ours(str(one.get("encrypted_index"))))]
            rest = {key: value for key, value in block.items() if key != "citations"}
            return jsonio.encode({**rest, "citations": left} if left else rest)
    return raw


def _text(words: str) -> bytes:
    return jsonio.encode({"type": "text", "text": words})
