"""Carrying an answer on after its upstream died in the middle of it.

What the client was shown is read back from its own frames (`Shown`), so that it does not matter who wrote them. The next attempt gets the
same conversation with the text so far as the model's turn: as a prefill where the model takes one, else with a request to go on from the
exact last characters (`rest_of`). `compat/calls/splice.py` then makes one stream of both.

Only text is carried on. After a tool call began to show there is no honest way; then the error event stays (docs/translation.md, rule 19).
An answer that must be JSON is not carried on either: a second attempt would decide its structure from the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from compat.calls.call import Call
from compat.clock import Clock
from compat.config.catalog import Price
from compat.errors import GatewayError
from compat.protocols import api_for
from compat.protocols.client_protocol import ClientProtocol, Identity
from compat.protocols.joined import FrameReader
from compat.protocols.transcript import Transcript
from compat.routing.router import Deployment
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage, added_usage, cost_of

MAX_SHOWN_CHARS = 1024 * 1024
_UNREAD_BYTES = 256 * 1024
_QUOTED_CHARS = 120
_CHARS_PER_TOKEN = 4
LEFT_ALONE = frozenset({"annotations", "reasoning_details"})
"""What a rescue may leave as it is: sources of the text, and the upstream's own notes on its reasoning."""

UNREADABLE = (GatewayError, LookupError, TypeError, ValueError, AttributeError)
"""What a reader raises for frames that it can't read: an upstream's bytes may have passed as they were."""

_PLEA = (
    "The connection failed in the middle of your last message. What arrived of it ends with the characters between these marks:\n"
    "<<<%s>>>\n\n"
    "Go on with the very next character, also within a word or a line. Repeat nothing, and say nothing about the interruption."
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the client has of an answer: its text, how much reasoning, and the stream's identity.

    `is_plain` turns false with anything else than text and reasoning (a tool call, a refusal), `has_ended` true with the answer's end.
    `place`: see `FrameReader`.
    """

    text: str = ""
    reasoning_chars: int = 0
    is_plain: bool = True
    has_ended: bool = False
    identity: tuple[str, int] | None = None
    place: Any = None

    @property
    def tokens(self) -> int:
        """What it may have cost, where no upstream reported it."""
        return (len(self.text) + self.reasoning_chars) // _CHARS_PER_TOKEN


class ShownSoFar:
    """What the client was shown of one answer. Mutable: everything. Frames are kept as they are until they are many, and then read."""

    def __init__(self, protocol: ClientProtocol) -> None:
        self._protocol = protocol
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._read_by: tuple[FrameReader, Transcript] | None = None
        self._is_lost = False

    def add(self, frames: bytes) -> None:
        """Keep whole frames that were handed out."""
        if self._is_lost:
            return
        self._unread.append(frames)
        self._unread_bytes += len(frames)
        if self._unread_bytes > _UNREAD_BYTES:
            self._read_on()

    def read(self) -> Shown | None:
        """All of it; `None` when it can't be read, or is more than a rescue is worth."""
        if not self._is_lost:
            self._read_on()
        return None if self._read_by is None else _shown(self._read_by[1], self._read_by[0].place)

    def _read_on(self) -> None:
        """Read what was not read yet. Nearly all answers come to their end, and are never read."""
        reader, transcript = self._read_by = self._read_by or (self._protocol.reader(), Transcript())
        frames, self._unread, self._unread_bytes = b"".join(self._unread), [], 0
        try:
            for block in EventSplitter().feed(frames):
                for event in reader.read(block):
                    transcript.add(event)
        except UNREADABLE:
            self._is_lost = True
        if self._is_lost or transcript.chars > MAX_SHOWN_CHARS:
            self._is_lost, self._read_by = True, None


def _shown(transcript: Transcript, place: Any) -> Shown:
    turn, identity = transcript.turn(), transcript.identity
    is_plain = not (turn.calls or turn.refusal or set(turn.unknown) - LEFT_ALONE) and len(transcript.turns) == 1
    has_ended = any(other.reason is not None for other in transcript.turns.values())
    return Shown(turn.text, len(turn.thinking), is_plain, has_ended, identity, place)


def last_frame(call: Call, error: GatewayError, so_far: ShownSoFar | None, clock: Clock | None = None) -> bytes:
    """The frame that ends an answer with an error: as a part of what was shown, where the protocol has it so and that is known.

    With a `clock` nothing was shown: the answer is named and dated here.
    """
    end, shown = call.protocol.error_end, None
    if end is not None and clock is not None:
        return end(error, Identity(call.protocol.answer_id(clock.new_id()), int(clock.now()), call.model))
    if end is not None and so_far is not None:
        shown = so_far.read()
    if end is None or shown is None or shown.identity is None:
        return call.protocol.error_frame(error)
    return end(error, Identity(*shown.identity, call.model, shown.place))


def can_rescue(call: Call, shown: Shown) -> bool:
    """Whether the rest of the answer can be asked for honestly."""
    rescue = call.protocol.rescue
    return rescue is not None and rescue.may(call.envelope) and shown.is_plain and not shown.has_ended and shown.identity is not None


def takes_prefill(call: Call, deployment: Deployment) -> bool:
    """Whether the deployment goes on with a trailing assistant message by itself."""
    if api_for(call.protocol.api, deployment.apis) != "anthropic.messages" or not deployment.model.messages.prefill:
        return False
    return call.protocol.rescue is not None and not call.protocol.rescue.asks_thinking(call.envelope)


def rest_of(call: Call, shown: Shown, deployment: Deployment) -> Call:
    """The call that asks for the rest. Without any text so far it is the call itself."""
    if not shown.text.strip() or call.protocol.rescue is None:
        return call
    words = "" if takes_prefill(call, deployment) else _PLEA % shown.text[-_QUOTED_CHARS:]
    return replace(call, envelope=call.protocol.rescue.rest(call.envelope, shown.text, shown.tokens, words), wants_usage=True)


@dataclass(frozen=True, slots=True)
class Spent:
    """What the parts of an answer cost whose upstreams died. `priced` are the counts of each with its price."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    priced: tuple[tuple[Usage, Price], ...] = ()

    def with_last(self, usage: Usage | None, cost_usd: float) -> tuple[Usage, float]:
        """Tokens and dollars of the whole answer, whose last part took these."""
        return added_usage(self.usage, usage) if usage is not None else self.usage, self.cost_usd + cost_usd

    def plus(self, usage: Usage, price: Price) -> Spent:
        """With one part more."""
        return Spent(added_usage(self.usage, usage), self.cost_usd + cost_of(usage, price), (*self.priced, (usage, price)))


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an answer that a client has: what it says, what it cost, and which deployments died over it, the last one last."""

    shown: Shown = field(default_factory=Shown)
    spent: Spent = field(default_factory=Spent)
    died: tuple[Deployment, ...] = ()

    def grown(self, shown: Shown, usage: Usage | None, deployment: Deployment) -> Part:
        """With what another deployment added before it died, whose `usage` is known or not."""
        spent = self.spent.plus(usage or estimate_of(shown.tokens - self.shown.tokens), deployment.model.price)
        return Part(shown, spent, (*self.died, deployment))


def estimate_of(tokens: int) -> Usage:
    """A part's usage where its upstream failed before it reported any."""
    return Usage(completion_tokens=max(tokens, 0), is_estimate=True)
