"""What a call asks for, in no protocol's words: a client's half reads requests as these, an upstream's half writes its body from them.

    Request   turns, tools, choice, limits ...                  one per call
    Turn      role, blocks                                      a message: what one side says
    Block     Text | Image | Document | ToolCall | ToolResult | Thinking | Unknown
    Tool      Function | Freeform | Hosted

The client's half checks what its own protocol demands and raises `BadRequest` in that protocol's words. It leaves nothing out: what has no
neutral place is `Unknown`, `extras`, `more` or `unread`. The upstream's half knows what the model takes; what it can't express it notes
(`dropped=...`), or, where the answer would be another one without it, refuses with `Unsupported`. For both it uses the client's words:
each block has its place in the client's body (`where`: `messages[3].content[0]`, `input[7]`), and `Request.name` gives the client's own
name of a field.

Rules for both halves

- Inputs are never changed, and a request holds the client's strings themselves: texts, base64 and arguments are not copied.
- A request may be translated several times (failover, refused parameters): an upstream's half reads it, and changes nothing in it.
- The same item gives the same blocks, whatever follows it: histories stay append-only, or prompt caches are lost (rule 27).
- Everything here is plain data. A block is a `msgspec.Struct`, as an event is: a history has hundreds, and a frozen dataclass takes several
  times as long to make.

Sources: the union of what OpenAI's Chat Completions and Responses, Anthropic's Messages and Gemini's generateContent can say (their API
references, November 2026). Rules by number are those of docs/translation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import msgspec

from compat.protocols.base import ClientApi, SearchTool, ToolShape

Role = Literal["system", "user", "assistant"]
"""`system` is also what OpenAI calls `developer`. Results of tools are blocks of the user's."""
CacheMark = Literal["default", "5m", "1h"]
"""The prompt is worth caching up to here, for the upstream's default time or the named one (`cache_control`, `prompt_cache_breakpoint`)."""
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
"""Least first."""
CallKind = Literal["function", "freeform"]
"""Whether a tool is called with JSON arguments, or with raw text (OpenAI's `custom` tools)."""
Field = Literal[
    "limit",
    "answers",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "choice",
    "parallel",
    "effort",
    "budget",
    "format",
    "verbosity",
    "user_id",
    "metadata",
    "service_tier",
    "cache_key",
    "store",
]
"""What a client's protocol has a name of its own for: see `Request.name`."""

NOTHING: Mapping[str, Any] = {}
OPENING = "(The conversation begins here.)"
"""The user's first words where there are none."""
CONTINUE = "Continue exactly where your last message ends."
"""The user's last words where the client ends with the model's."""


# Blocks. `where` is a block's place in the client's body, `cache` the mark that it carries.


class Text(msgspec.Struct, frozen=True, gc=False):
    """Words. Never the empty string, but it may be blank: who can't send blank text leaves it out. `is_refusal`: an assistant's words in
    place of an answer."""

    where: str
    text: str
    cache: CacheMark | None = None
    is_refusal: bool = False


class Image(msgspec.Struct, frozen=True):
    """An image: as `data` (base64 with padding, no line ends), at `url` (http or https, which the gateway never fetches), or by the
    `file_id` of a service.

    `media_type` is what the bytes say (`protocols/media`), else the client's label; which ones a model takes is the upstream's half's to
    check. `detail` as OpenAI has it, empty for automatic. `value` is the block in the words of the API `origin`, where the client used
    such: an upstream of that API gets it verbatim.
    """

    where: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    detail: str = ""
    cache: CacheMark | None = None
    origin: str = ""
    value: Any = None


class Document(msgspec.Struct, frozen=True):
    """A file that is to be read: as `text`, as `data` (base64), at `url`, or by `file_id`. `name` may be empty. The rest as in `Image`."""

    where: str
    media_type: str = ""
    text: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    name: str = ""
    cache: CacheMark | None = None
    origin: str = ""
    value: Any = None


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the assistant made.

    `call_id` is empty where the client leaves ids out, and not always unique (`protocols/pairing` helps). `arguments` is what the
    client sent, not yet checked: usually the JSON text that the model wrote (`str`), `msgspec.Raw` of the same, or a decoded value;
    `protocols/arguments` has them as an object or as text. Of a `freeform` call it is the raw text. `namespace`: see `Function`.
    """

    where: str
    call_id: str
    name: str
    arguments: Any = None
    kind: CallKind = "function"
    namespace: str = ""
    cache: CacheMark | None = None


class ToolResult(msgspec.Struct, frozen=True):
    """What a call gave: `Text`, `Image`, `Document` or `Unknown` blocks; none where it gave nothing.

    `call_id` is the client's, empty where it leaves ids out: then results come in the order of their calls. `written` is the text that a
    client wrote the blocks in as JSON (Kilo Code does): an upstream that can't take the blocks takes that text instead.
    """

    where: str
    call_id: str
    blocks: tuple[Block, ...] = ()
    is_error: bool = False
    kind: CallKind = "function"
    written: str = ""
    cache: CacheMark | None = None


class Thinking(msgspec.Struct, frozen=True):
    """What the assistant thought, as far as the client sends it back.

    `text` may be empty, and so may `seal`: the signature, encrypted content or redacted data that came with it, ours or an upstream's.
    `is_beside`: it stood beside the content, in a field of the message (`reasoning_content`). `value` is the block in the words of the
    API `origin`, verbatim.
    """

    where: str
    text: str = ""
    seal: str = ""
    is_beside: bool = False
    origin: str = ""
    value: Any = None


class Summary(msgspec.Struct, frozen=True):
    """A conversation that was made short: the only block of a turn that stands for all before it, sealed (`protocols/summaries`). No
    upstream's half sees one."""

    where: str
    seal: str = ""


class Unknown(msgspec.Struct, frozen=True):
    """What no other block can say: a `what` (its type) of the API `origin`, verbatim as `value`."""

    where: str
    origin: str
    what: str
    value: Any = None
    cache: CacheMark | None = None


Block = Text | Image | Document | ToolCall | ToolResult | Thinking | Summary | Unknown


class Turn(msgspec.Struct, frozen=True):
    """A message. Neighbours may have the same role: who needs them to alternate joins them.

    Calls that the model made together are in one turn: a client's half whose protocol has an item for each (Responses) joins such a run.
    `position` is the message's number in the client's body, which notes give (`moved=system@3`); instructions that stand outside of the
    list are the first turns, with the place of their field. `name` is the speaker's, `cache` the mark of the message as a whole: it belongs
    to the last block that is sent. `more` holds the client's own fields of a message that have no neutral place (`phase`,
    `output_config`), by name.
    """

    role: Role
    blocks: tuple[Block, ...]
    where: str
    position: int
    name: str = ""
    cache: CacheMark | None = None
    more: Mapping[str, Any] = NOTHING


# Tools.


class Function(msgspec.Struct, frozen=True):
    """A tool that the client runs, called with JSON. `schema` is `None` where the client gave none.

    `is_deferred`: not shown to the model before it was found by a search; one that was found in this history is deferred no longer.
    `namespace` groups tools (Responses): the client wants it back beside the bare name.
    """

    where: str
    name: str
    description: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    is_deferred: bool = False
    namespace: str = ""
    cache: CacheMark | None = None


class Freeform(msgspec.Struct, frozen=True):
    """A tool that the client runs, called with raw text (`type: custom`). `format` is its grammar in OpenAI's words."""

    where: str
    name: str
    description: str = ""
    format: Any = None
    is_deferred: bool = False
    namespace: str = ""
    cache: CacheMark | None = None


class Hosted(msgspec.Struct, frozen=True):
    """A tool of a service's own: `what` is its type (`web_search`, `bash_20250124`), `value` the whole of it in the words of the client's
    API, less its cache mark. `name` may be empty. What only another service has is left out with a note where it `is_optional`, else
    refused."""

    where: str
    what: str
    name: str = ""
    value: Any = None
    cache: CacheMark | None = None
    is_optional: bool = False


Tool = Function | Freeform | Hosted


class Choice(msgspec.Struct, frozen=True):
    """Which tool is to be called: as the model likes, `any`, `none`, or the `one` of this `name` (of a function, or of a hosted tool).
    `allowed` are the names that it may choose from; `None`: all."""

    kind: Literal["auto", "any", "none", "one"] = "auto"
    name: str = ""
    allowed: frozenset[str] | None = None


# Parameters.


class Sampling(msgspec.Struct, frozen=True, gc=False):
    """Sampling by the numbers that every protocol has; others are `extras`. Within the client's protocol's ranges."""

    temperature: float | int | None = None
    top_p: float | int | None = None
    top_k: float | int | None = None


class Reasoning(msgspec.Struct, frozen=True):
    """How much the model is to think. Nothing is set where the client does not say.

    `effort` and `budget` (tokens) are as the client names them, one of them at most. `effort: none` is thinking off. `is_adaptive`: on,
    and the model says how much, where there is no `effort` either. `display`: whether thinking is shown to the client whole or
    summarised, only by its seal, or not at all. `extras` are names of what else the client says about it, in its own words
    (`reasoning.summary`), and of what could not be read, in that order.
    """

    effort: Effort | None = None
    budget: int | None = None
    is_adaptive: bool = False
    display: Literal["shown", "summarized", "omitted", "dropped"] | None = None
    extras: tuple[str, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether the client leaves it to the model's default."""
        return self.effort is None and self.budget is None and not self.is_adaptive


class Format(msgspec.Struct, frozen=True):
    """How the answer is to be structured: any JSON object, or one of this schema. Plain text is no format."""

    kind: Literal["json", "schema"]
    schema: Mapping[str, Any] = NOTHING
    name: str = ""
    description: str = ""
    strict: bool | None = None

    @classmethod
    def described(cls, schema: Mapping[str, Any], words: Mapping[str, Any]) -> Format:
        """By a schema and what OpenAI's `words` say of it; what is garbled of these says nothing."""
        name, description, strict = words.get("name"), words.get("description"), words.get("strict")
        return cls(
            "schema",
            schema,
            name if isinstance(name, str) else "",
            description if isinstance(description, str) else "",
            None if strict is None else bool(strict),
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A call. What the gateway itself reads (model, stream, usage option) is not here but in the context.

    api            the client's
    answers        how many are wanted
    limit          tokens of the answer at most; `None`: the client names none
    parallel       whether several calls may be made at once; `None`: the default
    verbosity      low, medium or high; named in `extras` as well, unless it is the default
    user_id        the client's user, in its own words: personal, so not every upstream may get it
    metadata       what else the client tells about the call, by key
    cache_key      groups calls that share a prompt (`prompt_cache_key`, a session); empty where the client has none
    service_tier   in the client's words
    store          whether the upstream may keep the answer; `None`: the client does not say
    cache          a mark of the request as a whole: it belongs to the last block that is sent
    extras         the client's top-level fields that not every protocol has, unless they hold a default: client's name -> JSON text,
                   in the client's order. An upstream's half sends those that it can say, and notes each of the others as dropped
    changes        notes on what the client's half changed by itself (`cleared=...`)
    unread         names of fields that held something else than they should and can be done without: noted as dropped
    names          the client's names of what is here, where they differ (see `name`)
    size_bytes     of the client's body; `was_repaired`: half surrogate pairs in it were replaced
    has_marks      whether there may be cache marks anywhere
    shapes         tools whose calls the client wants back in a shape of their own, by their names here
    echoed         fields of the request that the client's answers give back
    summarises     the answer is a summary of the conversation, which its client is to keep sealed
    has_summaries  whether there may be summaries among the blocks
    search         a search of the web that a server is to run; it is among the tools as well, `Hosted`
    """

    api: ClientApi
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    choice: Choice | None = None
    parallel: bool | None = None
    answers: int = 1
    limit: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    reasoning: Reasoning = field(default_factory=Reasoning)
    format: Format | None = None
    verbosity: str = ""
    user_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cache_key: str = ""
    service_tier: str = ""
    store: bool | None = None
    cache: CacheMark | None = None
    extras: Mapping[str, bytes] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    names: Mapping[Field, str] = field(default_factory=dict)
    size_bytes: int = 0
    was_repaired: bool = False
    has_marks: bool = True
    shapes: Mapping[str, ToolShape] = field(default_factory=dict)
    echoed: Mapping[str, Any] = field(default_factory=dict)
    summarises: bool = False
    has_summaries: bool = False
    search: SearchTool | None = None

    def name(self, what: Field) -> str:
        """The client's name of a field, for notes and errors: `name("limit")` is `max_completion_tokens` where the client wrote that."""
        return self.names.get(what, what)
