"""A wire API that nobody has, both halves of it: the whole file that a new protocol takes (see `tests/integration/test_proofs.py`).

Request    {"model": ..., "say": [{"who": "user", "words": ...}], "flows": true, "most": 100}
Answer     {"nova": id, "words": ..., "why": "done", "spent": [in, out]}
Stream     data: {"nova": id}   data: {"w": ...}   data: {"why": "done", "spent": [in, out]}   data: over
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from compat import jsonio
from compat.errors import BadRequest, GatewayError, UpstreamBroken
from compat.protocols.base import ThinkingRecord, TranslatedRequest, TranslationContext
from compat.protocols.client_protocol import Ask, ClientProtocol, Headers, Identity, Rescue, Said, limit_of, model_of
from compat.protocols.events import BlockStart, BlockStop, Event, Start, Stop, StopReason, TextDelta, Used
from compat.protocols.joined import EventReader, FrameWriter
from compat.protocols.notes import Notes
from compat.protocols.request import Request, Text, Turn
from compat.protocols.upstream_protocol import UpstreamProtocol
from compat.wire.envelope import Envelope
from compat.wire.sse import EventSplitter, data_frame, parse_event
from compat.wire.usage import Usage

API: Any = "nova.say"
OVER = data_frame(b"over")
BEAT = b'event: beat\ndata: {"still": "here"}\n\n'
WHY: dict[StopReason, str] = {"end": "done", "length": "cut", "tool_calls": "called", "refusal": "refused"}
REASONS = {word: reason for reason, word in WHY.items()}


# Both sides: how an answer looks.


def frame(**fields: Any) -> bytes:
    return data_frame(jsonio.encode(fields))


def events_in(data: bytes) -> Iterator[Event]:
    """The events in one piece of a stream, or in a whole answer."""
    try:
        said = jsonio.decode(data)
    except BadRequest as error:
        raise UpstreamBroken("That is not Nova.") from error
    if "fault" in said:
        raise UpstreamBroken(said["fault"])
    if "nova" in said:
        yield Start(said["nova"], 0)
        yield BlockStart(0, "text")
    if words := said.get("w") or said.get("words"):
        yield TextDelta(0, words)
    if "why" in said:
        yield BlockStop(0)
        yield Stop(REASONS[said["why"]])
        yield Used(Usage(*said["spent"]), said["spent"])


class NovaReader:
    """Reads the frames that a client is shown."""

    def __init__(self) -> None:
        self.is_done = False
        self.place = None

    def read(self, block: bytes) -> Iterable[Event]:
        name, data = parse_event(block)
        self.is_done = self.is_done or data == b"over"
        return () if name == b"beat" or self.is_done or not data else events_in(data)


# The client's half.


def read(envelope: Envelope, _: Headers) -> Ask:
    if not envelope.starts_with("say", b"["):
        raise BadRequest("'say' must be a list.", param="say")
    return Ask(model_of(envelope), envelope.value("flows") is True, True, limit_of(envelope.value("most")))


def request(envelope: Envelope) -> Request:
    turns = []
    for number, row in enumerate(envelope.value("say")):
        where = f"say[{number}]"
        turns.append(Turn(row["who"], (Text(f"{where}.words", row["words"]),), where, number))
    return Request(API, tuple(turns), limit=limit_of(envelope.value("most")), names={"limit": "most"}, size_bytes=len(envelope.body))


def error_body(error: GatewayError) -> bytes:
    return jsonio.encode({"fault": error.message, "kind": error.code})


def error_frame(error: GatewayError) -> bytes:
    return frame(fault=error.message)


def again(said: Sequence[Said], identity: Identity) -> bytes:
    return jsonio.encode({"nova": identity.answer_id, "words": said[0].text, "why": "done", "spent": [0, 0]})


def replay(body: bytes, _: bool) -> bytes:
    whole = jsonio.decode(body)
    end = frame(why=whole["why"], spent=whole["spent"])
    return frame(nova=whole["nova"]) + frame(w=whole["words"]) + end + OVER


class NovaWriter(FrameWriter):
    """Events as frames, or as a whole answer."""

    def __init__(self, ctx: TranslationContext, _: Notes) -> None:
        self._id = ctx.completion_id

    def write(self, event: Event) -> bytes:
        match event:
            case Start():
                return frame(nova=self._id)
            case TextDelta():
                return frame(w=event.text)
            case Stop():
                self.reason = WHY[event.reason]
            case Used():
                told = event.told if isinstance(event.told, list) else [event.usage.prompt_tokens, event.usage.completion_tokens]
                return frame(why=self.reason, spent=told)
        return b""

    def finish(self) -> bytes:
        return OVER

    def body(self, events: Iterable[Event]) -> bytes:
        words: list[str] = []
        spent = [0, 0]
        for event in events:
            match event:
                case TextDelta():
                    words.append(event.text)
                case Stop():
                    self.reason = WHY[event.reason]
                case Used():
                    spent = [event.usage.prompt_tokens, event.usage.completion_tokens]
        return jsonio.encode({"nova": self._id, "words": "".join(words), "why": self.reason, "spent": spent})


class GoingOn(NovaWriter):
    """Writes the later part of a stream."""

    def __init__(self, identity: Identity) -> None:
        self._id = identity.answer_id


def rest(envelope: Envelope, text: str, _tokens: int, words: str) -> Envelope:
    turns = [*envelope.value("say"), {"who": "assistant", "words": text}, *([{"who": "user", "words": words}] if words else [])]
    return Envelope(envelope.replaced({"say": jsonio.encode(turns)}))


def with_spent(told: Any, usage: Usage, _cost_usd: float) -> Any:
    before = told if isinstance(told, list) else [0, 0]
    return [before[0] + usage.prompt_tokens, before[1] + usage.completion_tokens]


NOVA = ClientProtocol(
    api=API,
    endpoint="nova",
    paths=("/v1/nova",),
    read=read,
    prompt=("say",),
    opening=lambda envelope: [envelope["say"][:100]],
    error_body=error_body,
    error_frame=error_frame,
    answer_id=lambda new_id: f"nova-{new_id}",
    reader=NovaReader,
    whole_events=events_in,
    again=again,
    replay=replay,
    call_key=b'"call"',
    begins_call=lambda _: False,
    stream_end=("why", "over"),
    end_reason="done",
    request=request,
    writer=NovaWriter,
    obstacle=lambda _: "",
    rescue=Rescue(lambda _: True, lambda _: False, rest, lambda identity, _: GoingOn(identity), with_spent),
    heartbeat=BEAT,
)


# The upstream's half.


class UpstreamReader(EventReader):
    """Nova's answers as events."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        super().__init__(ctx, notes)
        self._reader = NovaReader()
        self._has_ended = False

    @property
    def thinking(self) -> ThinkingRecord | None:
        return None

    def read(self, block: bytes) -> Sequence[Event]:
        events = list(self._reader.read(block))
        self.is_finished = self._reader.is_done
        return self._noted(events)

    def end(self, *, is_whole: bool) -> Sequence[Event]:  # the reason is there, or it is not
        if not self._has_ended:
            raise UpstreamBroken("Nova broke off.")
        return ()

    def whole(self, body: bytes) -> Iterable[Event]:
        return self._noted(list(events_in(body)))

    def usage_so_far(self) -> Usage:
        return self.usage or Usage(is_estimate=True)

    def resume(self) -> None:
        raise NotImplementedError  # its answers never pause

    def _noted(self, events: list[Event]) -> list[Event]:
        self.has_content = self.has_content or any(isinstance(event, TextDelta) for event in events)
        self._has_ended = self._has_ended or any(isinstance(event, Stop) for event in events)
        self.usage = next((event.usage for event in events if isinstance(event, Used)), self.usage)
        return events


def write_request(asked: Request, ctx: TranslationContext) -> TranslatedRequest:
    say = [{"who": turn.role, "words": "".join(block.text for block in turn.blocks if isinstance(block, Text))} for turn in asked.turns]
    body = {"model": ctx.target, "say": say, "flows": ctx.is_stream, **({"most": asked.limit} if asked.limit else {})}
    return TranslatedRequest(jsonio.encode(body), notes=tuple(f"dropped={name}" for name in asked.extras))


NOVA_UPSTREAM = UpstreamProtocol(api=API, reader=UpstreamReader, request=write_request)


def text_of(frames: bytes) -> str:
    """The words of a stream, for tests."""
    reader = NovaReader()
    return "".join(event.text for block in EventSplitter().feed(frames) for event in reader.read(block) if isinstance(event, TextDelta))
