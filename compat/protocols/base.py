"""What a translator is.

A translator serves one pair of wire APIs. It is a record of four pure functions; everything they need is in their arguments, so a
failover can run them again with another deployment and a test can feed a stream in every possible split.

A stream translator is a push object that can't block: upstream bytes go in, whole client frames come out. It fails with an
`UpstreamError` when the upstream reports an error inside the stream, or when the stream is not what its protocol allows.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Never

from compat.config.catalog import Model
from compat.errors import GatewayError
from compat.protocols.events import Event, Found, SearchError
from compat.protocols.refusals import refused_parameter
from compat.protocols.sealed import Sealer
from compat.wire.envelope import Envelope
from compat.wire.sse import EventSplitter, blocks_of
from compat.wire.usage import Usage

WireApi = Literal["openai.chat", "openai.responses", "anthropic.messages", "llama.chat"]
"""What an upstream speaks; `llama.chat` is OpenAI's chat as llama.cpp's own server has it."""
ClientApi = Literal[
    "openai.chat", "openai.completions", "openai.embeddings", "openai.responses", "openai.count", "anthropic.messages", "anthropic.count"
]
"""What a client asks for."""


@dataclass(frozen=True, slots=True)
class MessagesSubset:
    """What a service that is like Anthropic's takes of the Messages API: `fields` of a request, types of `blocks`, `betas`, and `tools`
    that it runs itself, less their versions (`web_search`)."""

    fields: frozenset[str]
    blocks: frozenset[str]
    betas: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ThinkingRecord:
    """Signed thinking blocks of one assistant turn, to be kept for the turns that follow it.

    `tool_call_ids` are the ids of the tool calls in the same turn, as the client sees them; `blocks` are the upstream's blocks,
    verbatim and in order, with marks for what stood between them: `{"type": "text", "chars": N}`, `{"type": "tool_use", "id": ...}`.
    """

    tool_call_ids: tuple[str, ...]
    blocks: tuple[Mapping[str, Any], ...]


ShapeKind = Literal["function", "freeform", "search"]


@dataclass(frozen=True, slots=True)
class ToolShape:
    """How the client wants calls of a tool back: as those of a `function`, with raw text (`freeform`), or as its own `search` for tools;
    under its `name` in its `namespace`, which is empty where it has none."""

    kind: ShapeKind
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class SearchTool:
    """A search of the web that the client leaves to the server: the `name` of the tool, how often it may be used for one answer, and the
    domains to which its results are bound (`example.com`, `example.com/blog`), or which they may not be of."""

    name: str
    max_uses: int | None = None
    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerMemory:
    """What the answer's translation must know of the request's.

    `client_names` maps the upstream's names of tools to the client's where they differ; `answer_tool` is the tool whose input is the
    answer's text, if there is one; `called_tool` is the other way round the tool of which the answer's text is the call. `echo` is what
    the client wants to read before the answer. `hides_thinking`: it wants to read no thoughts, and keeps what seals them;
    `drops_thinking`: not even that. `stop` are the
    sequences at which the answer's text is to end here, for the upstream does not know them. `tools` are those whose calls the client wants
    in another shape than events have, by the name that events carry; `echoed` are fields of the request that the answer gives back.
    `summarises`: the answer's words are a summary, to be sealed. `search` is the search that the client wants to see; `runs_search`: the
    model calls it as a function, and the gateway runs it.
    """

    client_names: Mapping[str, str] = field(default_factory=dict)
    answer_tool: str = ""
    called_tool: str = ""
    echo: str = ""
    hides_thinking: bool = False
    drops_thinking: bool = False
    stop: tuple[str, ...] = ()
    tools: Mapping[str, ToolShape] = field(default_factory=dict)
    echoed: Mapping[str, Any] = field(default_factory=dict)
    summarises: bool = False
    search: SearchTool | None = None
    runs_search: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search that the model wants: under the id of its call, or why it is not run."""

    call_id: str
    words: str
    error: SearchError | None = None


NO_MEMORY = AnswerMemory()
"""That of a request that is passed on as it is."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What an upstream said before it paused: content blocks, verbatim, and token counts in its own words.

    Where it waits for searches, `queries` are those to be run, `turns` what follows the client's turns then, `said` the events of a whole
    answer so far, and `spent` what they took; `searches` counts those that were run.
    """

    blocks: tuple[Any, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    queries: tuple[Query, ...] = ()
    turns: tuple[Any, ...] = ()
    said: tuple[Event, ...] = ()
    spent: Usage = field(default_factory=Usage)
    searches: int = 0


def _no_thinking(_: Sequence[str]) -> Mapping[str, ThinkingRecord]:
    return {}


@dataclass(frozen=True, slots=True)
class TranslationContext:
    """All that a translation may depend on besides the client's bytes.

    `alias` is the name the client asked for, `target` the upstream's id of the model, `model` its facts from the catalog.
    `completion_id` and `created_s` identify the answer (clock and randomness are the caller's). `wants_usage`: whether the
    client asked for the usage chunk. `refused_parameters` are those that this deployment was seen to refuse; `find_thinking`
    looks kept thinking up by tool-call ids. `memory` is the request's, for its answer; `continuation` is set when a pause is resumed,
    `resumes`: whether another one would be.
    `sends_usage_option`: whether this upstream knows `stream_options`, `unwanted_fields` are fields of messages and tools that it
    refuses. `upstream_name` is the user's name for it, for error messages. `session` names the conversation, in no client's words.
    `count_prompt` estimates the tokens of the request, for an upstream that reports no usage. `sealer` signs what an upstream wants back
    with a thought; without one it is only marked as not the model's own. `client_headers` are those of the client's protocol, by their
    names in lower case. `searches`: the gateway can search the web. `subset` is what the
    upstream takes of Anthropic's protocol, where that is not all. `takes_marks`: its chat takes marks for the prompt cache. `now` is the
    caller's clock, in seconds since 1970, for answers that say when they were complete.
    """

    alias: str
    target: str
    model: Model
    completion_id: str
    created_s: int
    is_stream: bool
    wants_usage: bool = False
    sends_usage_option: bool = True
    unwanted_fields: frozenset[str] = frozenset()
    upstream_name: str = "the upstream"
    refused_parameters: frozenset[str] = frozenset()
    find_thinking: Callable[[Sequence[str]], Mapping[str, ThinkingRecord]] = _no_thinking
    memory: AnswerMemory = NO_MEMORY
    continuation: Continuation | None = None
    resumes: bool = True
    count_prompt: Callable[[], int] | None = None
    session: str = ""
    sealer: Sealer | None = None
    client_headers: Mapping[str, str] = field(default_factory=dict)
    searches: bool = False
    subset: MessagesSubset | None = None
    takes_marks: bool = False
    now: Callable[[], float] | None = None

    def prompt_tokens(self) -> int:
        """The estimate of the request's tokens; 0 where there is none."""
        return 0 if self.count_prompt is None else self.count_prompt()

    @property
    def now_s(self) -> int | None:
        """The time now, where it is known."""
        return None if self.now is None else int(self.now())


@dataclass(frozen=True, slots=True)
class TranslatedRequest:
    """The body for the upstream, extra headers for it, and notes on what translation changed (`dropped=temperature`).

    `segments` are digests of the prompt's parts in the order in which the upstream caches them, by name (`tools`, `system`,
    `messages[3]`); empty where there is no such cache.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    memory: AnswerMemory = NO_MEMORY
    segments: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class TranslatedAnswer:
    """A whole answer in the client's wire API; with a `continuation` there is none yet, and the call is to be resumed with it."""

    body: bytes
    usage: Usage | None
    stop_reason: str | None
    notes: tuple[str, ...] = ()
    thinking: ThinkingRecord | None = None
    continuation: Continuation | None = None


class StreamTranslator(abc.ABC):
    """Upstream bytes in, client bytes out; both of them may hold no frame, one or many. A subclass translates event by event.

    `is_committed` turns true with the first content (text, reasoning, a tool call, a refusal): from then on no other attempt may be made.
    `is_finished` turns true when the upstream's own end mark was seen. `is_flowing`: content came, and nothing but more of it is expected.
    `usage`, `stop_reason` (in the client's words), `notes` and `thinking` are final once it is finished. `continuation` is set when it
    paused: then `resume` is called, and the next part is fed, instead of `finish`. `is_whole` is what `finish` was called with.
    `failure` is an error that the stream ended with: frames that came before it, in the same bytes, are still returned. `knows`:
    `translate_known` may have an answer.
    """

    def __init__(self, ctx: TranslationContext) -> None:
        self.ctx = ctx
        self.is_committed = False
        self.is_finished = False
        self.is_flowing = False
        self.is_whole = False
        self.knows = False
        self.usage: Usage | None = None
        self.stop_reason: str | None = None
        self.notes: list[str] = []
        self.thinking: ThinkingRecord | None = None
        self.failure: GatewayError | None = None
        self.continuation: Continuation | None = None
        self._splitter = EventSplitter()

    def feed(self, data: bytes) -> bytes:
        """Take upstream bytes as they came; return whole client frames. An error is left in `failure`."""
        frames: list[bytes] = []
        try:
            text = self._splitter.complete(data)
            if not text:
                return b""
            if self.knows and (known := self.translate_known(text)) is not None:
                return known
            for block in blocks_of(text):
                known = self.translate_known(block) if self.knows else None
                frames.append(self.translate_event(block) if known is None else known)
        except GatewayError as error:
            error.forget_frames()
            self.failure = error
        self.is_flowing = (
            self.is_committed and self.stop_reason is None and self.failure is None and self.continuation is None and not self.is_finished
        )
        return b"".join(frames)

    def finish(self, *, is_whole: bool = False) -> bytes:
        """The upstream closed the stream, or said that it is at its end; the last frames and the end mark. Errors: any `UpstreamError`.

        `is_whole`: the body came to the end of its framing, so nothing was cut off.
        """
        self.is_whole = is_whole
        frames = [self.translate_event(block) for block in self._splitter.finish()]
        return b"".join((*frames, self.translate_end()))

    def resume(self) -> None:
        """Take the events of the next part of a paused answer. Only for translators that set `continuation`."""
        self.is_finished = False
        self.continuation = None
        self._splitter = EventSplitter()

    def searched(self, found: Sequence[Found]) -> bytes:
        """The frames for what the queries of the `continuation` gave, in their order; it can be resumed with what they are now. Only for
        translators that set such ones."""
        raise NotImplementedError

    def settle(self) -> None:
        """Take what was said for the answer: the pause is not resumed any more. Only for translators that set `continuation`."""
        self.continuation = None

    def translate_known(self, text: bytes) -> bytes | None:  # noqa: ARG002  # for those who know any
        """The client's frames for the text of some events, where a look at its bytes shows that they are content and nothing else."""
        return None

    @abc.abstractmethod
    def usage_so_far(self) -> Usage:
        """What a stream that is cut short has used: what the upstream had reported by then, and an estimate of the rest."""

    @abc.abstractmethod
    def translate_event(self, block: bytes) -> bytes:
        """The client's frames for one event. Errors: any `UpstreamError`."""

    @abc.abstractmethod
    def translate_end(self) -> bytes:
        """The frames that end the answer. `UpstreamBroken` when the answer was not complete."""


@dataclass(frozen=True, slots=True)
class Translator:
    """Pure functions for one pair of wire APIs.

    `request` never changes its input. `foregone` is an answer for which no upstream need be asked. `error` maps a refused call (status,
    lower-case headers, body) to the error tree, and `refused` names what of the call the upstream refused, where the call can do without.
    `endpoint` is one of `UpstreamKind.endpoints`; `queries` are those of the client's URL that the upstream's gets as well.
    """

    request: Callable[[Envelope, TranslationContext], TranslatedRequest]
    response: Callable[[bytes, TranslationContext], TranslatedAnswer]
    stream: Callable[[TranslationContext], StreamTranslator]
    error: Callable[[int, Mapping[str, str], bytes, TranslationContext], GatewayError]
    refused: Callable[[GatewayError], str | None] = refused_parameter
    endpoint: str = "openai.chat"
    foregone: Callable[[Envelope, TranslationContext], TranslatedAnswer | None] | None = None
    queries: frozenset[str] = frozenset()

    def at(self, query: str) -> str:
        """The endpoint for a call with this query, and what of it goes along."""
        return f"{self.endpoint}?{query}" if query in self.queries else self.endpoint


def no_stream(_: TranslationContext) -> Never:
    """The `stream` of a translator for answers that have none."""
    raise TypeError("such an answer is not streamed")


def note_values(notes: Sequence[str]) -> str:
    """The value of the `x-compat-notes` header."""
    return "; ".join(notes)
