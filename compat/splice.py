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
from compat.rescue import Shown, Spent
from compat.wire.sse import DONE, EventSplitter, data_frame, parse_event

MIN_OVERLAP = 12
"""Characters that make a repetition; fewer may well be the text's own."""

_REASONING = ("reasoning_content", "reasoning", "reasoning_details")


def new_part(shown: str, text: str, *, is_prefilled: bool, is_last: bool) -> str | None:
    """What `text`, as far as it came, adds to what was shown; `None` while that can't be told. `is_last`: no more will come.

    A repetition is a beginning of `text` (less white space at its start), at least `MIN_OVERLAP` long, with which `shown` ends. The longest
    one counts. Without a repetition nothing is lost.
    """
    if is_prefilled:
        left_out = shown[len(shown.rstrip()) :]
        size = next((at for at, pair in enumerate(zip(left_out, text, strict=False)) if pair[0] != pair[1]), min(len(left_out), len(text)))
        return None if size == len(text) < len(left_out) and not is_last else text[size:]
    starts = (text, text.lstrip())
    if not is_last and any(len(start) < len(shown) and start in shown for start in starts):
        return None
    for start in starts:
        if size := overlap_of(shown, start):
            return start[size:]
    return text


def overlap_of(shown: str, text: str) -> int:
    """How long the longest beginning of `text` is that `shown` ends with; 0 when it is shorter than `MIN_OVERLAP`."""
    if len(text) < MIN_OVERLAP:
        return 0
    position = shown.find(text[:MIN_OVERLAP], max(len(shown) - len(text), 0))
    while position >= 0:
        if text.startswith(shown[position:]):
            return len(shown) - position
        position = shown.find(text[:MIN_OVERLAP], position + 1)
    return 0


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
        self._held = ""
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
        chunk |= self._shown.identity or {}
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
        """What can be shown now."""
        self._held += text
        joined = new_part(self._shown.text, self._held, is_prefilled=self._was_prefilled(), is_last=is_last)
        self._is_joined = joined is not None
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
