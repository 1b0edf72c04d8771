"""What the core asks of a client's protocol: one record of small functions for each that clients may speak.

The core reads a request's envelope and never what is in it: which model, how long an answer, what opens a conversation, how an error looks
and what keeps a silent stream alive is all said here. A new protocol is a row of `CLIENT_PROTOCOLS` (`compat/protocols/__init__.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from compat import jsonio
from compat.config.catalog import Model
from compat.errors import BadRequest, GatewayError
from compat.protocols.base import AnswerMemory, ClientApi, TranslationContext
from compat.protocols.events import Event
from compat.protocols.joined import FrameReader, FrameWriter, MakeWriter
from compat.protocols.listing import Listing
from compat.protocols.request import Request
from compat.wire.envelope import Envelope
from compat.wire.sse import KEEP_ALIVE
from compat.wire.usage import Usage

MAX_MODEL_CHARS = 500

Headers = Mapping[str, str]
"""The header fields that a protocol reads (`ClientProtocol.headers`), by their names in lower case; one that was not sent is missing."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What the gateway must know of a request.

    `output_limit` is how many tokens an answer may have by the client's word, `answers_wanted` how many answers it wants, `session_id` its
    own name for the conversation. `agent_id` is a sub-agent of it, `parent_id` the sub-agent that began that one; where
    there is no `agent_id`, the session that began this one.
    """

    model: str
    is_stream: bool = False
    wants_usage: bool = False
    output_limit: int | None = None
    answers_wanted: int = 1
    session_id: str = ""
    agent_id: str = ""
    parent_id: str = ""


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one choice of a whole answer says that came to its own end: nothing but text, and the reasoning before it."""

    index: int
    text: str
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Under which names an answer is given: its id, when it was made, the client's name of the model. `place` is where it stands, for
    protocols that number its parts (`FrameReader.place`); `echoed` are fields of the request that it gives back (`AnswerMemory`). `now` is
    the clock of one that is still to be completed, in seconds since 1970."""

    answer_id: str
    created_s: int
    model: str
    place: Any = None
    echoed: Mapping[str, Any] = field(default_factory=dict)
    now: Callable[[], float] | None = None

    def context(self, *, wants_usage: bool = False) -> TranslationContext:
        """That of a stream which is written under these names."""
        memory = AnswerMemory(echoed=self.echoed)
        names = (self.model, self.model, Model(), self.answer_id, self.created_s)
        return TranslationContext(*names, is_stream=True, wants_usage=wants_usage, memory=memory, now=self.now)


@dataclass(frozen=True, slots=True)
class Rescue:
    """How an answer that was begun is carried on, for protocols in which it can be.

    `may(envelope)`: whether the answer may be put together from two. `asks_thinking(envelope)`: whether the client asked for reasoning,
    which no model does after a prefill. `rest(envelope, text, tokens, words)` is the request for what follows `text`, which took `tokens`,
    with `words` to the model where it needs any. `going_on(identity, wants_usage)` writes the frames of the later part of a stream,
    `with_spent(told, usage, cost_usd)` is the usage object of the last part with what earlier parts took.
    """

    may: Callable[[Envelope], bool]
    asks_thinking: Callable[[Envelope], bool]
    rest: Callable[[Envelope, str, int, str], Envelope]
    going_on: Callable[[Identity, bool], FrameWriter]
    with_spent: Callable[[Any, Usage, float], Any]


@dataclass(frozen=True, slots=True)
class ClientProtocol:
    """A protocol on the client's side.

    `error_end` ends an answer that was begun, for protocols in which the event is a part of it; else `error_frame` does.
    `endpoint` is its name in records and metrics, `paths` are its URLs, `headers` the fields of a request that `read` is given; a name that
    ends with `*` stands for all that begin like it. `error_status` is an error's status in this protocol, `error_headers` is
    what the head of its answer says besides, `id_header` the field that its
    clients read a request's id from, besides the gateway's own.
    `read` checks what every call needs to be sound. Errors: `BadRequest`. `reads_all`: it decodes what may be long.
    `prompt` are the keys whose values a model reads, the conversation first; `opening` are the words that a conversation began with, and
    keeps. `call_key` are bytes that stand in every frame with a tool call, `begins_call` says whether a frame with them begins one.
    `answer_id` makes the id of an answer of a random one. `reader` reads the frames that a client is shown, `whole_events` a whole answer;
    `again` gives an answer once more, at no cost; `replay(body, wants_usage)` is a whole answer as the stream that it could have been.
    `end_reason` is the word for an answer's own end; `stream_end` names, for people, how a stream says why it ended, and that it did.
    `request` reads a request as neutral blocks, and `writer` makes the writer of answers, for upstreams of another protocol.
    `obstacle` says why an answer may not be given to the next call alike, or nothing; without it none may. `check` looks for what a lenient
    upstream would take and break on; its keyword `takes_images` says whether the model reads more than text. `shares`: identical calls in
    flight may share their answer. `seals`: its clients keep signatures, and send them back. `is_served` is false for an
    endpoint with a view of its own. `is_parent`: other URLs of the protocol are below `paths`. `listing` is the list of models for its
    clients, where that is not OpenAI's. `count` estimates the tokens of a request, where clients ask for that. `searches`: its requests may
    leave a search of the web to the server; `only_searches`: one is for that and nothing else. `piece_chars` says
    how much text an event adds, where `reader` can't read it without those before it.
    """

    api: ClientApi
    endpoint: str
    paths: tuple[str, ...]
    read: Callable[[Envelope, Headers], Ask]
    prompt: tuple[str, ...]
    opening: Callable[[Envelope], list[bytes]]
    error_body: Callable[[GatewayError], bytes]
    error_frame: Callable[[GatewayError], bytes]
    answer_id: Callable[[str], str]
    reader: Callable[[], FrameReader]
    whole_events: Callable[[bytes], Iterable[Event]]
    again: Callable[[Sequence[Said], Identity], bytes]
    replay: Callable[[bytes, bool], bytes]
    call_key: bytes
    begins_call: Callable[[bytes], bool]
    stream_end: tuple[str, str]
    end_reason: str
    request: Callable[[Envelope], Request] | None = None
    writer: MakeWriter | None = None
    obstacle: Callable[[Envelope], str] | None = None
    check: Callable[..., None] | None = None
    rescue: Rescue | None = None
    headers: tuple[str, ...] = ()
    error_status: Callable[[GatewayError], int] = operator.attrgetter("status")
    error_end: Callable[[GatewayError, Identity], bytes] | None = None
    error_headers: Callable[[GatewayError], tuple[tuple[str, str], ...]] = lambda _: ()
    id_header: str = ""
    heartbeat: bytes = KEEP_ALIVE
    shares: bool = True
    seals: bool = False
    reads_all: bool = False
    is_served: bool = True
    is_parent: bool = False
    listing: Listing | None = None
    count: Callable[[Envelope], int] | None = None
    searches: bool = False
    only_searches: Callable[[Envelope], bool] | None = None
    piece_chars: Callable[[bytes], int] | None = None


DEFAULT_MODEL = "claude-4-sonnet"
"""The name for who asks for none."""


def model_of(envelope: Envelope) -> str:
    """The model's name. `BadRequest` where there is none."""
    model = envelope.value("model")
    if not isinstance(model, str) or not model.strip():
        raise BadRequest("'model' must be a name: see GET /v1/models.", param="model")
    if len(model) > MAX_MODEL_CHARS:
        raise BadRequest(f"'model' must be a name of at most {MAX_MODEL_CHARS} characters.", param="model")
    return model.strip()


def is_stream(envelope: Envelope, words: str = "'stream' must be true or false.") -> bool:
    """Whether the answer is wanted in pieces. `BadRequest` in these `words` where the client says neither."""
    stream = envelope.value("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest(words, param="stream")
    return bool(stream)


def continued(envelope: Envelope, changes: Mapping[str, bytes], limits: Sequence[str], tokens: int) -> Envelope:
    """The request with `changes`, and `limits` that are less by the `tokens` that the answer has taken so far."""
    found = {name: limit_of(envelope.value(name)) for name in limits}
    left = {name: jsonio.encode(max(limit - tokens, 1)) for name, limit in found.items() if limit is not None}
    return Envelope(envelope.replaced({**changes, **left}))


def limit_of(value: Any) -> int | None:
    """A limit of tokens, where `value` is one."""
    return value if isinstance(value, int) and value > 0 else None
