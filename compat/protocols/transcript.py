"""The one fold over events: what an answer says so far, whoever wrote it.

    transcript = Transcript()
    for event in events: transcript.add(event)
    transcript.turns[0].text, .thinking, .calls, .reason

An answer has one turn, or several where the client asked for several answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compat.protocols.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    RefusalDelta,
    Signature,
    Start,
    Stop,
    StopReason,
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.wire.usage import Usage


@dataclass(slots=True)
class ToolCall:
    """A tool call as far as it came. Mutable: its pieces."""

    call_id: str
    name: str
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        """Its arguments so far."""
        return "".join(self.pieces)


@dataclass(slots=True)
class Turn:
    """What one choice says. Mutable: all of it. `unknown` are names of what no event can say, `reason` is set by its end."""

    said: dict[str, list[str]] = field(default_factory=dict)
    calls: list[ToolCall] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    reason: StopReason | None = None

    @property
    def text(self) -> str:
        """Its words for the user."""
        return self.words("text")

    @property
    def thinking(self) -> str:
        """Its reasoning, as far as it may be read."""
        return self.words("thinking")

    @property
    def refusal(self) -> str:
        """Its words in place of an answer."""
        return self.words("refusal")

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but text and thinking."""
        return not (self.calls or self.unknown or self.refusal)

    def words(self, kind: str) -> str:
        """All words of one kind."""
        return "".join(self.said.get(kind, ()))


class Transcript:
    """See above. Mutable: all of it. `identity` is the first event's, `usage` and `told` the last one's,
    `chars` counts all words."""

    def __init__(self) -> None:
        self.turns: dict[int, Turn] = {}
        self.identity: tuple[str, int] | None = None
        self.usage: Usage | None = None
        self.told: Any = None
        self.chars = 0
        self._blocks: dict[int, list[str]] = {}

    def add(self, event: Event) -> None:
        """Take the next event."""
        _FOLDS[type(event)](self, event)

    def turn(self, choice: int = 0) -> Turn:
        """What a choice says; nothing yet, where it has not begun."""
        return self.turns.setdefault(choice, Turn())

    def _start(self, event: Start) -> None:
        self.identity = self.identity or (event.answer_id, event.created_s)

    def _block_start(self, event: BlockStart) -> None:
        turn = self.turn(event.choice)
        if event.kind == "tool_call":
            call = ToolCall(event.call_id, event.name)
            turn.calls.append(call)
            self._blocks[event.index] = call.pieces
        else:
            self._blocks[event.index] = turn.said.setdefault(event.kind, [])

    def _delta(self, event: TextDelta | ThinkingDelta | RefusalDelta | ArgumentsDelta) -> None:
        self._blocks[event.index].append(event.text)
        self.chars += len(event.text)

    def _wordless(self, _: Cited | Signature) -> None:
        """Sources and signatures are no words."""

    def _block_stop(self, event: BlockStop) -> None:
        self._blocks.pop(event.index, None)

    def _unknown(self, event: Unknown) -> None:
        self.turn(event.choice).unknown.append(event.what)

    def _stop(self, event: Stop) -> None:
        turn = self.turn(event.choice)
        turn.reason = event.reason
        if event.refusal:
            turn.said.setdefault("refusal", []).append(event.refusal)

    def _used(self, event: Used) -> None:
        self.usage, self.told = event.usage, event.told


_FOLDS: Mapping[type[Event], Callable[[Transcript, Any], None]] = {
    Start: Transcript._start,
    BlockStart: Transcript._block_start,
    TextDelta: Transcript._delta,
    ThinkingDelta: Transcript._delta,
    RefusalDelta: Transcript._delta,
    ArgumentsDelta: Transcript._delta,
    Cited: Transcript._wordless,
    Signature: Transcript._wordless,
    BlockStop: Transcript._block_stop,
    Unknown: Transcript._unknown,
    Stop: Transcript._stop,
    Used: Transcript._used,
}
