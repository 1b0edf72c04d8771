"""The shapes of the Responses API's answers, as far as they are decoded.

An event of a stream repeats the whole request twice (`response.created`, `response.in_progress`): what is not needed stays raw.
"""

from __future__ import annotations

from typing import Any

import msgspec

from compat.errors import UpstreamBroken


class ResponseEvent(msgspec.Struct):
    """Whatever an event of a stream may hold. `output_index` is missing at some servers: then the event is about the last item."""

    type: str = ""
    output_index: int | None = None
    content_index: int = 0
    summary_index: int = 0
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    part: Any = None
    item: dict[str, Any] | None = None
    annotation: Any = None
    response: msgspec.Raw = msgspec.Raw(b"{}")
    error: Any = None
    code: Any = None
    message: Any = None
    param: Any = None


class Answer(msgspec.Struct):
    """A whole answer, as the end of a stream or as a body; items stay raw until each is read."""

    id: str = ""
    created_at: float = 0
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: Any = None
    incomplete_details: Any = None
    error: Any = None


decode_event = msgspec.json.Decoder(ResponseEvent).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_item = msgspec.json.Decoder(dict[str, Any]).decode


def read_answer(body: bytes | msgspec.Raw) -> Answer:
    """The answer in `body`. Errors: `UpstreamBroken`."""
    try:
        return _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"The upstream's answer is not a response: {error}.") from error


def read_item(raw: msgspec.Raw) -> dict[str, Any]:
    """An item of an answer. Errors: `UpstreamBroken`."""
    try:
        return _decode_item(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"The upstream's answer holds something that is not an item: {error}.") from error
