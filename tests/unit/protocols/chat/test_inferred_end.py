"""What an answer without a `finish_reason` must have ended with."""

from __future__ import annotations

import json
from typing import Any

from compat.protocols.chat.inferred_end import MAX_CALL_BYTES, CallEvents


def calls(*pieces: dict[str, Any], choice: int | None = 0) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": choice, "delta": {"tool_calls": list(pieces)}}]}).encode()


def piece(arguments: str, index: int | None = 0, **function: str) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments, **function}}


def reason(*texts: bytes, choice: int = 0) -> str | None:
    events = CallEvents()
    for text in texts:
        events.add(text)
    return events.reason(choice)


def test_calls_are_put_together_from_their_pieces_each_by_its_index() -> None:
    begun = calls(piece("", name="f"), piece("", index=1, name="g"))
    assert reason(begun) == "tool_calls"
    assert reason(begun, calls(piece('{"a":'))) is None
    assert reason(begun, calls(piece('{"a":')) + b"\n\n" + calls(piece(" 1}"))) == "tool_calls"
    assert reason(begun, calls(piece("{", index=1))) is None


def test_each_choice_has_its_own_calls() -> None:
    texts = calls(piece("{", name="f"), choice=1), calls(piece("", name="f"), choice=None)
    assert (reason(*texts), reason(*texts, choice=1), reason(*texts, choice=2)) == ("tool_calls", None, "stop")


def test_what_is_no_call_says_nothing() -> None:
    odd = [b"data: {", b"data: 5", b": hi", b'data: {"choices": 5}', b'data: {"choices": [5, {"delta": 5}, {"delta": {"tool_calls": 5}}]}']
    assert reason(*odd) == "stop"
    assert reason(calls(), b'data: {"choices": [{"delta": {"tool_calls": [5, {"function": 5}]}}]}') is None


def test_calls_too_long_to_be_looked_at_are_not_judged() -> None:
    assert reason(calls(piece("", name="f")), b"x" * MAX_CALL_BYTES, b"x") is None
