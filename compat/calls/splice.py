"""Frames of a later attempt as the continuation of what a client was shown: one stream out of two answers.

The stream keeps its identity and its one role. What the later answer repeats of the shown text is left out: it is held back as long as it
may turn out to be a repetition, and no longer. Reasoning that comes after text is left out as well, for it would stand in the middle of it.
Usage is that of all parts; a comment before the end mark names the deployments.

A model that goes on from a prefill repeats nothing, except white space: the prefill was sent without that at its end (the API refuses it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compat.calls.resume import LEFT_ALONE, Shown, Spent
from compat.protocols.client_protocol import ClientProtocol, Identity
from compat.protocols.events import BlockStart, BlockStop, Event, Signature, Start, TextDelta, ThinkingDelta, Unknown, Used
from compat.wire.sse import EventSplitter, parse_event
from compat.wire.usage import added_usage

MIN_OVERLAP = 12
"""Characters that make a repetition whatever they are."""

_MIN_LETTERS = 3
_WINDOW_CHARS = 4096
"""How far back a repetition may begin, if it does not begin with the answer itself."""


def new_part(shown: str, text: str, *, is_prefilled: bool, is_last: bool) -> str | None:
    """What `text`, as far as it came, adds to what was shown; `None` while that is not known. `is_last`: no more will come.

    A repetition is a beginning of `text` (less white space at its start) with which `shown` ends: see `overlap_of`. Without one nothing is
    lost.
    """
    if is_prefilled:
        left_out = shown[len(shown.rstrip()) :]
        size = next((at for at, pair in enumerate(zip(left_out, text, strict=False)) if pair[0] != pair[1]), min(len(left_out), len(text)))
        return None if size == len(text) < len(left_out) and not is_last else text[size:]
    starts = (text, text.lstrip())
    if not is_last and any(_may_grow(shown, start) for start in starts):
        return None
    for start in starts:
        if size := overlap_of(shown, start):
            return start[size:]
    return text


def overlap_of(shown: str, text: str) -> int:
    """How long the longest repetition is: a beginning of `text` that `shown` ends with; 0 without one.

    Fewer than `MIN_OVERLAP` characters may well be the text's own. They are a repetition where they begin with a word and are one, or the
    beginning of one that the text writes out (`...brown f` and `fox jumps`), or hold at least three letters.
    """
    if text.startswith(shown):
        return len(shown)
    tail = shown[-_WINDOW_CHARS:]
    for size in range(min(len(tail), len(text)), 0, -1):
        if text.startswith(tail[-size:]) and (size >= MIN_OVERLAP or _are_words(tail, size)):
            return size
    return 0


def _may_grow(shown: str, start: str) -> bool:
    """Whether `start` may be the beginning of a repetition that is still to come."""
    return len(start) < len(shown) and (start in shown[-_WINDOW_CHARS:] or shown.startswith(start))


def _are_words(tail: str, size: int) -> bool:
    """Whether the last `size` characters are words, and not the end of one."""
    words = tail[-size:]
    is_within = size < len(tail) and (tail[-size - 1].isalnum() or tail[-size - 1] == "_")
    return not is_within and words[0].isalpha() and (words.isalpha() or sum(map(str.isalpha, words)) >= _MIN_LETTERS)


class Splice:
    """The later attempt's frames, made to fit. Mutable: what is held back, and whether text has begun.

    `was_prefilled` is asked when the first text comes, `names` are the deployments, the one that carries on last; `now` is in seconds
    since 1970.
    """

    def __init__(
        self,
        protocol: ClientProtocol,
        alias: str,
        shown: Shown,
        spent: Spent,
        names: Sequence[str],
        was_prefilled: Callable[[], bool],
        now: Callable[[], float],
        *,
        wants_usage: bool,
    ) -> None:
        assert protocol.rescue is not None
        answer_id, created_s = shown.identity or ("", 0)
        self._heartbeat = protocol.heartbeat.rstrip(b"\n")
        self._with_spent = protocol.rescue.with_spent
        self._reader = protocol.reader()
        self._writer = protocol.rescue.going_on(Identity(answer_id, created_s, alias, shown.place, now=now), wants_usage)
        self._shown = shown
        self._spent = spent
        self._names = names
        self._was_prefilled = was_prefilled
        self._is_joined = not shown.text
        self._text_index = 0
        self._thoughts: set[int] = set()
        self._held: list[str] = []
        self._held_chars = 0
        self._looked_at_chars = 0
        self._splitter = EventSplitter()

    def feed(self, frames: bytes) -> bytes:
        """The client's frames for those of the attempt; there may be none."""
        return b"".join(out for block in self._splitter.feed(frames) for out in self._block(block))

    def _block(self, block: bytes) -> Iterator[bytes]:
        if block == self._heartbeat or not parse_event(block).data:
            yield block + b"\n\n"
            return
        for event in self._reader.read(block):
            for one in self._fitting(event):
                yield self._writer.write(one)
        if self._reader.is_done:
            yield _comment("carried on after a fault: " + " -> ".join(self._names)) + self._writer.finish()

    def _fitting(self, event: Event) -> Iterator[Event]:
        """What of the later answer belongs into the one that was begun."""
        match event:
            case Start():
                return
            case ThinkingDelta() | Signature() if self._shown.text:
                return
            case BlockStop(index) if index in self._thoughts:
                yield event
            case Unknown(what=what) if self._shown.text and what in LEFT_ALONE:
                return
            case BlockStart(index, "text"):
                self._text_index = index
                yield event
            case BlockStart(index, "thinking"):
                self._thoughts.add(index)
                yield event
            case TextDelta(index, text) if not self._is_joined:
                if joined := self._joined(text, is_last=False):
                    yield TextDelta(index, joined)
            case Used(usage, told):
                spent = self._spent
                yield Used(added_usage(spent.usage, usage), self._with_spent(told, spent.usage, spent.cost_usd))
            case _:
                if not self._is_joined and (rest := self._joined("", is_last=True)):
                    yield TextDelta(self._text_index, rest)
                yield event

    def _joined(self, text: str, *, is_last: bool) -> str:
        """What can be shown now. What is held is looked at each time it has doubled, or grown by a good deal: else long texts in small
        pieces would take the square of their length."""
        self._held.append(text)
        self._held_chars += len(text)
        if not is_last and self._held_chars < self._looked_at_chars + min(self._looked_at_chars, _WINDOW_CHARS):
            return ""
        self._looked_at_chars = self._held_chars
        held = "".join(self._held)
        joined = new_part(self._shown.text, held, is_prefilled=self._was_prefilled(), is_last=is_last)
        self._is_joined = joined is not None
        self._held = [held]
        return joined or ""


def _comment(words: str) -> bytes:
    """A comment of one line, in printable ASCII."""
    return b": " + "".join(character if " " <= character <= "~" else "?" for character in words).encode() + b"\n\n"
