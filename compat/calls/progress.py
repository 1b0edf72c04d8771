"""How far a streamed answer is, for those who watch: its tokens by an estimate that costs next to nothing."""

from __future__ import annotations

import math

from compat.calls.resume import UNREADABLE
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.events import ArgumentsDelta, TextDelta, ThinkingDelta
from compat.wire.estimate import CHARS_PER_TOKEN
from compat.wire.sse import EventSplitter

PROGRESS_S = 1.0
"""How often it is shown."""

_SAMPLES = 3
_SAMPLE_BYTES = 512


class Progress:
    """Of one answer. Mutable: when it was shown last, and how much of some frames was text."""

    def __init__(self, protocol: ClientProtocol) -> None:
        self._protocol = protocol
        self._shown_s = -math.inf
        self._samples = self._chars = self._bytes = 0

    def is_due(self, now_s: float) -> bool:
        """Whether it is to be shown now; then not again for `PROGRESS_S`."""
        if now_s - self._shown_s < PROGRESS_S:
            return False
        self._shown_s = now_s
        return True

    def tokens(self, frames: bytes, total_bytes: int) -> int:
        """About how many tokens `total_bytes` of frames hold, of which `frames` are the last: the share of text in a few is that of all.
        0 where they can't be read."""
        if self._samples < _SAMPLES:
            for block in EventSplitter().feed(frames[:_SAMPLE_BYTES]):
                self._bytes += len(block)
                self._chars += _chars_in(self._protocol, block)
            self._samples += self._bytes > 0
        return math.ceil(total_bytes * self._chars / (max(self._bytes, 1) * CHARS_PER_TOKEN))


def _chars_in(protocol: ClientProtocol, block: bytes) -> int:
    """How much text, reasoning and arguments of tool calls a frame adds; none where it can't be read."""
    if protocol.piece_chars is not None:
        return protocol.piece_chars(block)
    try:
        events = list(protocol.reader().read(block))
    except UNREADABLE:
        return 0
    return sum(len(event.text) for event in events if isinstance(event, TextDelta | ThinkingDelta | ArgumentsDelta))
