"""An answer that came to its end without a `finish_reason`, as several servers end theirs: what its reason must have been.

The end mark, or the end of a well-framed body, says that nothing was cut off. Then complete tool calls are an end with `tool_calls`, and
text is an end with `stop`. Half a call is of no use to an agent, so that it stays a fault; so does an answer without content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compat import jsonio
from compat.errors import BadRequest
from compat.wire.sse import blocks_of, parse_event

MAX_CALL_BYTES = 8 * 1024 * 1024
"""Of events with tool calls that are kept to be looked at; longer calls are not judged."""

NOTE = "finish_reason=inferred"


class CallEvents:
    """The events of a stream from its first tool call on, as they came. Mutable: all of it."""

    __slots__ = ("_is_too_long", "_size_bytes", "_texts")

    def __init__(self) -> None:
        self._texts: list[bytes] = []
        self._size_bytes = 0
        self._is_too_long = False

    def add(self, text: bytes) -> None:
        """The text of one event or of several (see `EventSplitter.complete`)."""
        self._size_bytes += len(text)
        if self._size_bytes > MAX_CALL_BYTES:
            self._is_too_long = True
            self._texts.clear()
        else:
            self._texts.append(text)

    def reason(self, choice: int) -> str | None:
        """What such a choice ended with: `stop` without a call, `tool_calls` when all its calls are complete, `None` when one is not."""
        if self._is_too_long:
            return None
        calls: dict[int, dict[str, list[str]]] = {}
        for block in (block for text in self._texts for block in blocks_of(text)):
            for piece in _pieces(parse_event(block).data, choice):
                call = calls.setdefault(piece.get("index") or 0, {"name": [], "arguments": []})
                function = piece.get("function")
                for key, parts in call.items():
                    value = function.get(key) if isinstance(function, dict) else None
                    parts.append(value if isinstance(value, str) else "")
        return reason_of(("".join(call["name"]), "".join(call["arguments"])) for call in calls.values())


def reason_of(calls: Iterable[tuple[str, str]]) -> str | None:
    """The reason of an end after such calls (name, arguments); `None` where one is incomplete."""
    found = list(calls)
    if not all(name and is_complete(arguments) for name, arguments in found):
        return None
    return "tool_calls" if found else "stop"


def reason_of_message(message: Mapping[str, Any]) -> str | None:
    """The reason of a whole answer's end; `None` where its message has no content, or half a call."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return "stop" if any(isinstance(message.get(key), str) and message[key] for key in ("content", "refusal")) else None
    functions = [call.get("function") if isinstance(call, dict) else None for call in calls]
    if not all(isinstance(function, dict) for function in functions):
        return None
    return reason_of((str(function.get("name") or ""), str(function.get("arguments") or "")) for function in functions if function)


def is_complete(arguments: str) -> bool:
    """Whether a call's arguments are a JSON text; none at all stand for no arguments."""
    if not arguments.strip():
        return True
    try:
        jsonio.decode(arguments.encode("utf-8", "replace"))
    except BadRequest:
        return False
    return True


def _pieces(data: bytes, choice: int) -> Sequence[dict[str, Any]]:
    """The pieces of tool calls in one event, for one choice."""
    try:
        document = jsonio.decode(data)
    except BadRequest:
        return ()
    choices = document.get("choices") if isinstance(document, dict) else None
    rows = [row for row in choices if isinstance(row, dict)] if isinstance(choices, list) else []
    deltas = [row.get("delta") for row in rows if (row.get("index") or 0) == choice]
    found = [delta.get("tool_calls") for delta in deltas if isinstance(delta, dict)]
    return [piece for pieces in found if isinstance(pieces, list) for piece in pieces if isinstance(piece, dict)]
