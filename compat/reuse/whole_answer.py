"""Answers that can be given again: what is kept of one, read from a whole answer or put together from a stream.

    kept_of(protocol, body)                 -> what is kept of a whole answer
    assembly.feed(frames); .kept()          -> the same of a stream, whose frames may come in any pieces
    protocol.again(kept.said, identity)     -> the answer again, under another id, with no usage

An answer is worth keeping when all of it came, it came to its own end, and there is nothing in it but text: `None` for any other.
"""

from __future__ import annotations

import msgspec

from compat.errors import GatewayError
from compat.protocols.client_protocol import ClientProtocol, Said
from compat.protocols.events import BlockStart, Event, Stop, Unknown
from compat.protocols.transcript import Transcript
from compat.wire.sse import EventSplitter

_MAX_INDEX = 10_000


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept: the texts of each answer that was asked for. All of them came to their own end."""

    said: tuple[Said, ...]


_read_kept = msgspec.json.Decoder(Kept).decode


def pack(kept: Kept) -> bytes:
    """`kept` as bytes."""
    return msgspec.json.encode(kept)


def unpack(packed: object) -> Kept | None:
    """What `pack` made of it; `None` for anything else."""
    try:
        kept = _read_kept(packed) if isinstance(packed, bytes) else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return kept if kept is not None and kept.said and all(0 <= said.index <= _MAX_INDEX and said.text for said in kept.said) else None


def kept_of(protocol: ClientProtocol, body: bytes) -> Kept | None:
    """What is kept of a whole answer in the client's words."""
    transcript = Transcript()
    try:
        for event in protocol.whole_events(body):
            transcript.add(event)
    except GatewayError:
        return None
    return _kept(transcript)


class Assembly:
    """A stream's frames in, what is kept of it out. Mutable: all of it; once the stream holds anything unknown, nothing is kept.

    `size_bytes` is how much text there is so far.
    """

    def __init__(self, protocol: ClientProtocol) -> None:
        self._splitter = EventSplitter()
        self._reader = protocol.reader()
        self._transcript: Transcript | None = Transcript()

    @property
    def size_bytes(self) -> int:
        """How much text there is so far."""
        return self._transcript.chars if self._transcript is not None else 0

    def feed(self, frames: bytes) -> None:
        """Take frames as they go to the client."""
        transcript = self._transcript
        if transcript is None:
            return
        try:
            for block in self._splitter.feed(frames):
                for event in self._reader.read(block):
                    if self._reader.is_done or not _is_known(event):
                        self.spoil()
                        return
                    transcript.add(event)
        except GatewayError:
            self.spoil()

    def spoil(self) -> None:
        """Keep nothing of this stream."""
        self._transcript = None

    def kept(self) -> Kept | None:
        """What is kept, now that the stream is over."""
        return _kept(self._transcript) if self._transcript is not None and self._reader.is_done else None


def _is_known(event: Event) -> bool:
    """Whether an answer with this event may be kept."""
    match event:
        case Unknown() | BlockStart(kind="tool_call" | "refusal"):
            return False
        case Stop():
            return event.reason == "end"
    return True


def _kept(transcript: Transcript) -> Kept | None:
    turns = transcript.turns
    if not turns or any(turn.reason != "end" or not turn.is_plain or not turn.text for turn in turns.values()):
        return None
    return Kept(tuple(Said(index, turn.text, turn.thinking) for index, turn in turns.items()))
