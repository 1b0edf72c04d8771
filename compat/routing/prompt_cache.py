"""Watches the upstream's prompt cache over a session: when it is lost, the log names the first part of the prompt that changed.

A session is known by its client, its deployment, and the digest of its first message; what came before must be the beginning of what comes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

MAX_SESSIONS = 2000

Segments = Sequence[tuple[str, bytes]]


class PromptCacheWatch:
    """The last prompt of each session, as digests. Mutable; bounded, the longest unused goes first."""

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self._max = max_sessions
        self._last: OrderedDict[tuple[str, str, bytes], Segments] = OrderedDict()

    def first_change(self, client: str, deployment: str, segments: Segments, *, was_read: bool) -> str | None:
        """Remember this prompt; where nothing of it `was_read` from the cache though an earlier one of the session begins it, the reason.

        The name of the first segment that differs; `expired` where none does.
        """
        start = next((digest for name, digest in segments if name.startswith("messages[")), None)
        if start is None:
            return None
        key = (client, deployment, start)
        before = self._last.get(key)
        self._last[key] = segments
        self._last.move_to_end(key)
        while len(self._last) > self._max:
            self._last.popitem(last=False)
        if before is None or was_read:
            return None
        return next((old[0] for old, new in zip(before, segments, strict=False) if old != new), "expired")
