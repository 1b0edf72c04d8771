"""Frames of a later attempt as the continuation of what a client was shown: one stream out of two answers.

The stream keeps its identity and its one role. What the later answer repeats of the shown text is left out: it is held back as long as it
may turn out to be a repetition, and no longer. Reasoning that comes after text is left out as well, for it would stand in the middle of it.
Usage is that of all parts; a comment before the end mark names the deployments.

A model that goes on from a prefill repeats nothing, except white space: the prefill was sent without that at its end (the API refuses it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compat import jsonio
from compat.calls.resume import Shown, Spent
from compat.wire.sse import DONE, EventSplitter, data_frame, parse_event

MIN_OVERLAP = 12
"""Characters that make a repetition whatever they are."""

_MIN_LETTERS = 3
_WINDOW_CHARS = 4096
"""How far back a repetition may begin, if it does not begin with the answer itself."""

_REASONING = ("reasoning_content", "reasoning", "reasoning_details")


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

    `was_prefilled` is asked when the first text comes, `names` are the deployments, the one that carries on last.
    """

    def __init__(self, shown: Shown, spent: Spent, names: Sequence[str], was_prefilled: Callable[[], bool], *, wants_usage: bool) -> None:
        self._shown = shown
        self._spent = spent
        self._names = names
        self._was_prefilled = was_prefilled
        self._wants_usage = wants_usage
        self._is_joined = not shown.text
        self._held: list[str] = []
        self._held_chars = 0
        self._looked_at_chars = 0
        self._splitter = EventSplitter()

    def feed(self, frames: bytes) -> bytes:
        """The client's frames for those of the attempt; there may be none."""
        return b"".join(out for block in self._splitter.feed(frames) for out in self._event(block))

    def _event(self, block: bytes) -> Iterator[bytes]:
        data = parse_event(block).data
        if not data:
            yield block + b"\n\n"  # a heartbeat
        elif data == b"[DONE]":
            yield _comment("carried on after a fault: " + " -> ".join(self._names)) + DONE
        else:
            yield from self._chunk(jsonio.decode(data))

    def _chunk(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        chunk |= dict(zip(("id", "created"), self._shown.identity or (), strict=False))
        if not chunk["choices"]:
            if self._wants_usage:
                yield _frame({**chunk, "usage": self._usage(chunk.get("usage") or {})})
            return
        choice = chunk["choices"][0]
        delta = choice["delta"] = dict(choice.get("delta") or {})
        delta.pop("role", None)
        if self._shown.text:
            for name in _REASONING:
                delta.pop(name, None)
        is_end = choice.get("finish_reason") is not None
        if not self._is_joined:
            text = delta.pop("content", None)
            joined = self._joined(text if isinstance(text, str) else "", is_last=is_end or any(delta.values()))
            if joined:
                yield _frame({**chunk, "choices": [{**choice, "delta": {"content": joined}, "finish_reason": None}]})
        if is_end or any(delta.values()):
            yield _frame(chunk)

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

    def _usage(self, raw: dict[str, Any]) -> dict[str, Any]:
        """The counts of all parts, and their cost, each by the price of its own model."""
        before = self._spent.usage
        added = {"prompt_tokens": before.prompt_tokens, "completion_tokens": before.completion_tokens}
        usage = raw | {name: int(raw.get(name) or 0) + count for name, count in added.items()}
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        details = raw.get("cost_details")
        cost = details.get("upstream_inference_cost") if isinstance(details, dict) else None
        if isinstance(details, dict) and isinstance(cost, int | float):
            usage["cost_details"] = {**details, "upstream_inference_cost": cost + self._spent.cost_usd}
        return usage


def _frame(chunk: dict[str, Any]) -> bytes:
    return data_frame(jsonio.encode(chunk))


def _comment(words: str) -> bytes:
    """A comment of one line, in printable ASCII."""
    return b": " + "".join(character if " " <= character <= "~" else "?" for character in words).encode() + b"\n\n"
