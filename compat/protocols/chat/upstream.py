"""The upstream's half of OpenAI's chat protocol: answers as events, with an end that is inferred where the upstream left it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from compat.errors import UpstreamBroken
from compat.protocols.base import ThinkingRecord, TranslationContext
from compat.protocols.chat.inferred_end import NOTE, reason_of
from compat.protocols.chat.reader import ChunkReader, decoded
from compat.protocols.chat.upstream_request import write_request
from compat.protocols.events import BlockStart, Event, Start, Stop, StopReason, Used
from compat.protocols.joined import EventReader
from compat.protocols.notes import Notes
from compat.protocols.transcript import Transcript
from compat.protocols.upstream_protocol import UpstreamProtocol
from compat.wire.estimate import estimated_usage
from compat.wire.usage import Usage

_UNENDED = "The upstream ended its answer without a finish_reason."


class ChatReader(EventReader):
    """See `EventReader`. What ends an answer is held back until its end: some servers tell their counts with every chunk."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        super().__init__(ctx, notes)
        self._chunks = ChunkReader(ctx.upstream_name)
        self._said = Transcript()

    @property
    def thinking(self) -> ThinkingRecord | None:
        """Nothing that must come back signed."""
        return None

    def read(self, block: bytes) -> Sequence[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        if self.is_finished:
            return ()
        events = list(self._taken(self._chunks.read(block)))
        self.is_finished = self._chunks.is_done
        return events

    def end(self, *, is_whole: bool) -> Sequence[Event]:
        """See `EventReader`."""
        return self._end(is_over=self.is_finished or (is_whole and self._said.usage is not None))

    def whole(self, body: bytes) -> Iterable[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        document = decoded(body)
        events = list(self._taken(self._chunks.read_chunk(document, "message")))
        if not self._said.turns:
            raise UpstreamBroken("The upstream's answer has no choices.")
        return *events, *self._end(is_over=True)

    def usage_so_far(self) -> Usage:
        """See `EventReader`. An upstream that tells no counts gets an estimate."""
        told = self._said.usage
        if told is not None and told.prompt_tokens:
            return told
        prompt = self.ctx.prompt_tokens()
        return estimated_usage(prompt, self._said.chars)

    def _taken(self, events: Iterable[Event]) -> Iterator[Event]:
        names = self.ctx.memory.client_names
        for event in events:
            self._said.add(event)
            if isinstance(event, Stop):
                self.is_complete = True
            elif names and isinstance(event, BlockStart) and event.name in names:
                self.has_content = True
                yield msgspec.structs.replace(event, name=names[event.name])
            elif not isinstance(event, Used):
                self.has_content = self.has_content or not isinstance(event, Start)
                yield event

    def _end(self, *, is_over: bool) -> Sequence[Event]:
        turn = self._said.turn()
        reason = turn.reason or (self._inferred() if is_over else None)
        if reason is None:
            raise UpstreamBroken(_UNENDED)
        if turn.reason is None:
            self.notes.add(*NOTE.split("="))
        self.is_finished = True
        self.usage = self.usage_so_far()
        told = self._said.told if not self.usage.is_estimate else None
        return Stop(reason, turn.refusal), Used(self.usage, told)

    def _inferred(self) -> StopReason | None:
        """The reason that an answer must have ended with: see `inferred_end`."""
        turn = self._said.turn()
        if turn.calls:
            return "tool_calls" if reason_of((call.name, call.arguments) for call in turn.calls) is not None else None
        return "end" if turn.text or turn.refusal else None


CHAT_UPSTREAM = UpstreamProtocol(api="openai.chat", reader=ChatReader, request=write_request)
