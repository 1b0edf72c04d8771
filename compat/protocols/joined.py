"""Two halves joined: an upstream's events, written in the client's protocol, whole and streamed."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from compat.errors import UpstreamBroken
from compat.protocols.base import Continuation, StreamTranslator, ThinkingRecord, TranslatedAnswer, TranslationContext
from compat.protocols.events import ArgumentsDelta, Event, Found, TextDelta, ThinkingDelta
from compat.protocols.notes import Notes
from compat.protocols.raw_text import OpenText, Shape, text_of
from compat.wire.usage import Usage

DeltaKind = type[TextDelta] | type[ThinkingDelta] | type[ArgumentsDelta]

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Of events: more than half a million tokens, however finely they are cut."""
SHAPES = 4
"""How many deltas of a block are looked at, for those that follow to be known by their bytes."""
_MAX_SHAPE_BYTES = 4096


class RawDeltas(NamedTuple):
    """Deltas of one kind and of one block, each as what a JSON string holds."""

    kind: DeltaKind
    block: int
    values: Sequence[bytes]


class EventReader(abc.ABC):
    """The upstream's half: its bytes in, events out. It never blocks, and raises `UpstreamError` for what its protocol does not allow.

    `is_finished` turns true when the upstream's own end mark was seen; then `usage` is final. `thinking` is final after the end, and so is
    `continuation`, which is set when the answer paused: then `resume` or `settle` follows. `has_content` turns true with the first content,
    `is_complete` when all of the answer came, where that is known before the end mark. `knows`: `known` may have an answer.
    """

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        self.ctx = ctx
        self.notes = notes
        self.is_finished = False
        self.has_content = False
        self.is_complete = False
        self.knows = False
        self.usage: Usage | None = None
        self.continuation: Continuation | None = None

    @property
    @abc.abstractmethod
    def thinking(self) -> ThinkingRecord | None:
        """The thinking that is to be kept for the turns that follow."""

    @abc.abstractmethod
    def read(self, block: bytes) -> Sequence[Event]:
        """The events in one SSE event."""

    def known(self, text: bytes) -> RawDeltas | None:  # noqa: ARG002  # for those who know any
        """The deltas in the text of some events, where a look at its bytes shows that these are nothing else."""
        return None

    @abc.abstractmethod
    def end(self, *, is_whole: bool) -> Sequence[Event]:
        """The events that end the answer. `UpstreamBroken` when it was not complete; `is_whole`: see `StreamTranslator.finish`."""

    @abc.abstractmethod
    def whole(self, body: bytes) -> Iterable[Event]:
        """The events of a whole answer, its end included, to be taken once. With a `continuation` there are none yet."""

    @abc.abstractmethod
    def usage_so_far(self) -> Usage:
        """See `StreamTranslator`."""

    def resume(self) -> None:
        """The answer paused, and goes on in another stream. Only for readers that set `continuation`."""
        raise NotImplementedError

    def searched(self, found: Sequence[Found]) -> Sequence[Event]:
        """See `StreamTranslator`."""
        raise NotImplementedError

    def settle(self) -> None:
        """Take what was said for the answer."""
        self.continuation = None


class ShapedReader(EventReader):
    """A reader of deltas of which nearly all look alike. `_shapes_left`: how many deltas of the open block are still looked at."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        super().__init__(ctx, notes)
        self._bytes = 0
        self._shapes_left = 0
        self._known: tuple[Shape, OpenText, DeltaKind] | None = None

    @abc.abstractmethod
    def _shape(self, block: bytes, text: str) -> Shape | None:
        """The shape of an event whose delta is `text`; `None` where that is not plain."""

    def known(self, text: bytes) -> RawDeltas | None:
        """See `EventReader`. Only deltas of the block whose last one was decoded are known."""
        known = self._known
        if known is None or (values := known[0].values(text)) is None:
            return None
        self._bytes += len(text)
        if self._bytes > MAX_ANSWER_BYTES:
            raise self._too_long()
        if b"" in values:
            values = [value for value in values if value]
        known[1].raw += values
        return RawDeltas(known[2], known[1].number, values)

    def _too_long(self) -> UpstreamBroken:
        return UpstreamBroken(f"The upstream sent an answer of more than {MAX_ANSWER_BYTES} bytes.")

    def _learn_shape(self, block: bytes, events: Sequence[Event], into: OpenText) -> None:
        """Know deltas like this one by their bytes; a few that look otherwise are decoded, and looked at in their turn."""
        self._forget_shape()
        if self._shapes_left and len(events) == 1 and len(block) <= _MAX_SHAPE_BYTES:
            event = events[0]
            if isinstance(event, TextDelta | ThinkingDelta | ArgumentsDelta):
                self._shapes_left -= 1
                shape = self._shape(block, event.text)
                if shape is not None:
                    self._known, self.knows = (shape, into, type(event)), True

    def _forget_shape(self) -> None:
        self._known, self.knows = None, False


class FrameWriter(abc.ABC):
    """The client's half: events in, frames or a whole body out. `reason` is the end's reason in the client's words."""

    reason: str | None = None

    @abc.abstractmethod
    def write(self, event: Event) -> bytes:
        """The frames for one event, which may be none."""

    def write_raw(self, deltas: RawDeltas) -> bytes:
        """The frames for deltas as their upstream wrote them: the same as for the events that they stand for."""
        kind, index, values = deltas
        return b"".join(self.write(kind(index, text_of((value,)))) for value in values)

    @abc.abstractmethod
    def finish(self) -> bytes:
        """The frames after the last event."""

    @abc.abstractmethod
    def body(self, events: Iterable[Event]) -> bytes:
        """The body of a whole answer."""


class FrameReader(Protocol):
    """Reads the frames that a client is shown. `is_done`: the end mark came. `place` is where the answer stands, for protocols that number
    its parts."""

    is_done: bool

    @property
    def place(self) -> Any:
        """See above."""
        ...

    def read(self, block: bytes) -> Iterable[Event]:
        """The events in one SSE event. Errors: any `UpstreamError`."""
        ...


MakeReader = Callable[[TranslationContext, Notes], EventReader]
MakeWriter = Callable[[TranslationContext, Notes], FrameWriter]


def answer_translator(reader: MakeReader, writer: MakeWriter) -> Callable[[bytes, TranslationContext], TranslatedAnswer]:
    """The function that translates a whole answer (see `Translator.response`)."""

    def translate(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
        notes = Notes()
        read, written = reader(ctx, notes), writer(ctx, notes)
        events = read.whole(body)
        if read.continuation is not None:
            return TranslatedAnswer(b"", read.usage, None, continuation=read.continuation)
        whole = written.body(events)
        return TranslatedAnswer(whole, read.usage, written.reason, notes.told(), read.thinking)

    return translate


class JoinedStream(StreamTranslator):
    """A stream between two protocols."""

    def __init__(self, ctx: TranslationContext, reader: MakeReader, writer: MakeWriter) -> None:
        super().__init__(ctx)
        self._receipt = Notes()
        self._reader = reader(ctx, self._receipt)
        self._writer = writer(ctx, self._receipt)
        self._read = self._reader.read
        self._write = self._writer.write
        self._known = self._reader.known
        self._write_raw = self._writer.write_raw

    def translate_known(self, text: bytes) -> bytes | None:
        """See `StreamTranslator`."""
        deltas = self._known(text)
        return None if deltas is None else self._write_raw(deltas)

    def translate_event(self, block: bytes) -> bytes:
        """See `StreamTranslator`."""
        events = self._read(block)
        reader = self._reader
        self.knows = reader.knows
        if not self.is_committed:
            self.is_committed = reader.has_content
        if reader.is_complete:
            self.stop_reason, self.continuation = self.stop_reason or "complete", reader.continuation
        if reader.is_finished:
            self.is_finished, self.usage, self.continuation = True, reader.usage, reader.continuation
        if len(events) == 1:
            return self._write(events[0])
        return b"".join(map(self._write, events))

    def translate_end(self) -> bytes:
        """See `StreamTranslator`."""
        frames = [self._write(event) for event in self._reader.end(is_whole=self.is_whole)]
        frames.append(self._writer.finish())
        self.usage, self.stop_reason, self.thinking = self._reader.usage, self._writer.reason, self._reader.thinking
        self.notes = list(self._receipt.told())
        return b"".join(frames)

    def usage_so_far(self) -> Usage:
        """See `StreamTranslator`."""
        return self._reader.usage_so_far()

    def resume(self) -> None:
        """See `StreamTranslator`."""
        super().resume()
        self.stop_reason = None
        self._reader.resume()

    def searched(self, found: Sequence[Found]) -> bytes:
        """See `StreamTranslator`."""
        frames = b"".join(map(self._write, self._reader.searched(found)))
        self.continuation = self._reader.continuation
        return frames

    def settle(self) -> None:
        """See `StreamTranslator`."""
        super().settle()
        self._reader.settle()
