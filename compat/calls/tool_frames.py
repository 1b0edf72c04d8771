"""The tool calls of an answer, counted for the usage store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from compat.errors import GatewayError
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.events import BlockStart, Event
from compat.wire.sse import EventSplitter

MAX_KEPT_BYTES = 64 * 1024
"""Of an answer's tool calls: those that begin after so much of them are not counted."""

_NAME = b'"name"'


class ToolFrames:
    """Counts the tool calls of an answer, in the background: frames in which one may begin are kept as they are. Mutable: those."""

    def __init__(self, protocol: ClientProtocol) -> None:
        self._protocol = protocol
        self._frames: list[bytes] = []
        self._body = b""
        self.kept_bytes = 0

    def feed(self, frames: bytes) -> None:
        """Take frames of a stream. A name of a tool stands in the frame that begins its call, and never in its arguments, where quotes
        are escaped."""
        is_call = self._protocol.call_key in frames and _NAME in frames and self._protocol.begins_call(frames)
        if is_call and self.kept_bytes + len(frames) <= MAX_KEPT_BYTES:
            self._frames.append(frames)
            self.kept_bytes += len(frames)

    def whole(self, body: bytes) -> None:
        """Take a whole answer."""
        if len(body) <= MAX_KEPT_BYTES and self._protocol.call_key in body:
            self._body = body
            self.kept_bytes = len(body)

    def counted(self) -> Mapping[str, int]:
        """How often each tool is called, as far as that can be read."""
        names: Counter[str] = Counter()
        reader = self._protocol.reader()
        blocks = [reader.read(block) for block in EventSplitter().feed(b"".join(self._frames))]
        for events in (*blocks, *([self._protocol.whole_events(self._body)] if self._body else [])):
            names.update(_names_in(events))
        return names


def _names_in(events: Iterable[Event]) -> Iterable[str]:
    """The tools that are called in one frame; what an upstream wrote that is not of its protocol is passed over."""
    found: list[str] = []
    try:
        found.extend(event.name for event in events if isinstance(event, BlockStart) and event.kind == "tool_call")
    except (GatewayError, LookupError, TypeError, ValueError, AttributeError):
        return found
    return found
