"""Writers for tests of what joins two halves."""

from __future__ import annotations

from collections.abc import Iterable

from compat.protocols.events import Event
from compat.protocols.joined import FrameWriter


class PlainWriter(FrameWriter):
    """Writes each event as Python shows it."""

    def write(self, event: Event) -> bytes:
        """See `FrameWriter`."""
        return repr(event).encode()

    def finish(self) -> bytes:
        """See `FrameWriter`."""
        return b"end"

    def body(self, events: Iterable[Event]) -> bytes:
        """See `FrameWriter`."""
        return b"".join(map(self.write, events))
