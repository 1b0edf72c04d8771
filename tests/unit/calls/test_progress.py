"""How far an answer is, by an estimate from a few of its frames."""

from __future__ import annotations

from typing import Any

import pytest

from compat import jsonio
from compat.calls import progress as module
from compat.calls.progress import PROGRESS_S, Progress
from compat.protocols.chat.client import CHAT
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.messages.client import MESSAGES
from compat.protocols.responses.client import RESPONSES


def frame(document: dict[str, Any]) -> bytes:
    name = b"event: %s\n" % document["type"].encode() if "type" in document else b""
    return name + b"data: " + jsonio.encode(document) + b"\n\n"


CHAT_TEXT = frame({"choices": [{"index": 0, "delta": {"content": "seven c"}}]})
MESSAGES_TEXT = frame({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "seven c"}})
MESSAGES_CALL = frame({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "seven c"}})
RESPONSES_TEXT = frame({"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "seven c"})


@pytest.mark.parametrize(
    ("protocol", "text"),
    [(CHAT, CHAT_TEXT), (MESSAGES, MESSAGES_TEXT), (MESSAGES, MESSAGES_CALL), (RESPONSES, RESPONSES_TEXT)],
    ids=["chat", "messages", "arguments", "responses"],
)
def test_tokens_are_estimated_from_the_share_of_text(protocol: ClientProtocol, text: bytes) -> None:
    progress = Progress(protocol)
    tokens = progress.tokens(text * 3, 500 * len(text))
    assert 950 <= tokens <= 1050, "two tokens of 3.5 characters in each of 500 frames"


def test_only_the_beginnings_of_a_few_frames_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(module, "_chars_in", lambda _, block: read.append(len(block)) or 7)
    progress = Progress(CHAT)
    for _ in range(100):
        progress.tokens(CHAT_TEXT * 1000, 10**6)
    assert sum(read) <= 3 * 512
    assert read


@pytest.mark.parametrize("protocol", [CHAT, RESPONSES], ids=["chat", "responses"])
@pytest.mark.parametrize(
    "odd", [b"", b"data: [DONE]\n\n", b"data: {\n\n", b": comment\n\n", b'data: {"choices":7,"delta":"x"}\n\n', b"half"]
)
def test_frames_that_say_nothing_cost_nothing(odd: bytes, protocol: ClientProtocol) -> None:
    assert Progress(protocol).tokens(odd, 1000) == 0


def test_it_is_due_once_a_second() -> None:
    progress = Progress(CHAT)
    assert [progress.is_due(now_s) for now_s in (5.0, 5.5, 5.0 + PROGRESS_S, 5.1 + PROGRESS_S)] == [True, False, True, False]
