"""Watches the upstream's prompt cache over a session: when it is lost, the log names the first part of the prompt that changed.

A session is known by the client's own id (`x-session-id`), else by its first message. What the upstream had in its cache after one
call (read and written) it should read in the next; when it reads less, something before that changed, or the cache is gone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from compat.wire.usage import Usage

MAX_SESSIONS = 2000
MAX_SEGMENTS = 1000
"""Of a prompt that are remembered: a client could fill the memory with prompts of many small messages."""
LEAST_SHARE = 0.8
"""Where nothing changed, a smaller share of what was cached is a loss; a little less is read where a marker moved."""

Segments = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class _Seen:
    segments: Segments
    cached_tokens: int


class PromptCacheWatch:
    """The last prompt of each session, as digests. Mutable; bounded, the longest unused goes first."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, str, bytes], _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._last)

    def first_change(self, client: str, session_id: str, deployment: str, segments: Segments, usage: Usage) -> str | None:
        """Remember this prompt; where the upstream read less of it than it had cached, the reason.

        The name of the first segment that differs from the session's last prompt; `expired` where none does.
        """
        start = session_id.encode("utf-8", "surrogatepass") or next((mark for name, mark in segments if name.startswith("messages[")), b"")
        if not start:
            return None
        segments = segments[:MAX_SEGMENTS]
        key = (client, deployment, start)
        before = self._last.get(key)
        self._last[key] = _Seen(segments, usage.cache_read_tokens + usage.cache_write_tokens)
        self._last.move_to_end(key)
        if len(self._last) > MAX_SESSIONS:
            self._last.popitem(last=False)
        read = usage.cache_read_tokens
        if before is None or read >= before.cached_tokens:
            return None
        changed = next((old[0] for old, new in zip(before.segments, segments, strict=False) if old != new), None)
        return changed or ("expired" if read < before.cached_tokens * LEAST_SHARE else None)
