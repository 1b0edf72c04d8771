"""Searches of the web that a client leaves to its server, for an upstream that runs none: the model calls a function, the gateway runs it.

    with_function(request, continuation)    the request, its search a function; once it was called, with the call and what came of it
    SearchingReader(make, ctx, notes)       the answer: its calls of that function are searches, for which it pauses
    answered(continuation, found)           what it goes on with
    fitting(results, tool)                  the results that the client's domains let through

To the client all of it is one answer: a search, what it found, and the words that follow. Calls of the client's own tools end an answer, so
that a search beside them is not run; the model reads that, and may search again. An answer that was cut short is not gone on with.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from compat.protocols.base import Continuation, Query, SearchTool, ThinkingRecord, TranslationContext
from compat.protocols.events import BlockKind, BlockStart, BlockStop, Event, Found, Result, Signature, Start, Stop, Used
from compat.protocols.joined import EventReader, MakeReader
from compat.protocols.notes import Notes
from compat.protocols.request import Block, Function, Hosted, Request, Text, Thinking, ToolCall, ToolResult, Turn
from compat.protocols.sealed import Sealed
from compat.protocols.served import words_found
from compat.wire.usage import Usage, added_usage

MAX_USES = 20
"""Of one answer, where the client names no bound."""
_WHERE = "web_search"
_DESCRIPTION = "Search the web. Gives the titles and addresses of pages, and what they say in short."
_SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to search for."}},
    "required": ["query"],
    "additionalProperties": False,
}
_CONTENT: tuple[BlockKind, ...] = ("text", "thinking")


def with_function(request: Request, continuation: Continuation | None) -> Request:
    """The request for an upstream that runs no search; its choice was obeyed once the model has called a tool."""
    search = request.search
    assert search is not None
    tools = tuple(
        Function(tool.where, tool.name, _DESCRIPTION, _SCHEMA, cache=tool.cache)
        if isinstance(tool, Hosted) and tool.name == search.name
        else tool
        for tool in request.tools
    )
    changes = (*request.changes, f"emulated={search.name}")
    if continuation is None:
        return replace(request, tools=tools, changes=changes)
    return replace(request, tools=tools, changes=changes, choice=None, turns=(*request.turns, *continuation.turns))


def answered(continuation: Continuation, found: Sequence[Found]) -> Continuation:
    """The continuation with what its queries gave."""
    number = sum(type(event) is BlockStart for event in continuation.said)
    results = [
        ToolResult(_WHERE, query.call_id, (Text(_WHERE, words_found(one)),)) for query, one in zip(continuation.queries, found, strict=True)
    ]
    return replace(
        continuation,
        queries=(),
        turns=(*continuation.turns, Turn("user", tuple(results), _WHERE, 0)),
        said=(*continuation.said, *found_events(continuation.queries, found, number)),
        searches=continuation.searches + len(found),
    )


def found_events(queries: Sequence[Query], found: Sequence[Found], number: int) -> list[Event]:
    """What searches gave, as blocks from this number on."""
    blocks = enumerate(zip(queries, found, strict=True), number)
    return [event for at, (query, one) in blocks for event in (BlockStart(at, "found", query.call_id, more=one), BlockStop(at))]


def fitting(results: Iterable[Result], tool: SearchTool) -> tuple[Result, ...]:
    """The results of domains that the client allows and does not block."""
    return tuple(
        one
        for one in results
        if (not tool.allowed or any(_is_of(one.url, domain) for domain in tool.allowed))
        and not any(_is_of(one.url, domain) for domain in tool.blocked)
    )


def _is_of(url: str, domain: str) -> bool:
    """Whether a page is of a domain, or one below it, and under the path that follows the domain, if any."""
    host, slash, path = domain.lower().partition("/")
    try:
        parts = urllib.parse.urlsplit(url)
        own = (parts.hostname or "").lower()
    except ValueError:
        return False
    return (own == host or own.endswith(f".{host}")) and f"{parts.path}/".lower().startswith(slash + path)


@dataclass(slots=True)
class _Said:
    """A block of the present part. Mutable: its words, and what seals it. `number` is the client's, none of a search."""

    start: BlockStart
    number: int | None
    pieces: list[str] = field(default_factory=list)
    seal: Signature | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class SearchingReader(EventReader):
    """See above, and `EventReader`. Mutable: the present part (`_inner`, `_part`), and what all parts have said, taken and searched."""

    def __init__(self, make: MakeReader, ctx: TranslationContext, notes: Notes) -> None:
        super().__init__(ctx, notes)
        assert ctx.memory.search is not None
        self._make = make
        self._tool = ctx.memory.search
        self._inner = make(replace(ctx, continuation=None), notes)
        self._before = ctx.continuation or Continuation()
        self._number = sum(type(event) is BlockStart for event in self._before.said)
        self._has_begun = bool(self._before.said)
        self._part: dict[int, _Said] = {}
        self._unrun: tuple[Query, ...] = ()
        self._is_concluded = False

    @property
    def thinking(self) -> ThinkingRecord | None:
        """Its clients keep it."""
        return None

    def read(self, block: bytes) -> Sequence[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        inner = self._inner
        events = list(self._taken(inner.read(block)))
        self.is_complete, self.is_finished = inner.is_complete, inner.is_finished
        if self.is_complete or self.is_finished:
            events += self._conclude()
        self.has_content = self.has_content or any(type(event) is not Start for event in events)
        if self.is_finished and self.continuation is None:
            self.usage = self.usage_so_far()
        return events

    def end(self, *, is_whole: bool) -> Sequence[Event]:
        """See `EventReader`. Searches that were not run by now are not run any more."""
        events = list(self._taken(self._inner.end(is_whole=is_whole)))
        self.is_finished, self.usage = True, self.usage_so_far()
        return [*self._conclude(can_pause=False), *self._give_up(), *events]

    def whole(self, body: bytes) -> Iterable[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        taken = list(self._taken(self._inner.whole(body)))
        ending = [event for event in taken if isinstance(event, Stop | Used)]
        content = [event for event in taken if not isinstance(event, Stop | Used)]
        events = [*content, *self._conclude(can_pause=self.ctx.resumes)]
        self.usage = self.usage_so_far()
        if self.continuation is not None:
            said = (*self._before.said, *events)
            self.continuation = replace(self.continuation, said=said, spent=self.usage)
            return ()
        return *self._before.said, *events, *self._give_up(), *ending

    def usage_so_far(self) -> Usage:
        """See `EventReader`: of all parts."""
        return added_usage(self._before.spent, self._inner.usage_so_far())

    def searched(self, found: Sequence[Found]) -> Sequence[Event]:
        """See `StreamTranslator`."""
        assert self.continuation is not None
        queries = self.continuation.queries
        events = found_events(queries, found, self._number)
        self._number += len(queries)
        self._unrun = ()
        self.continuation = replace(answered(self.continuation, found), said=())
        return events

    def resume(self) -> None:
        """See `EventReader`."""
        assert self.continuation is not None
        self._before = replace(self.continuation, spent=self.usage_so_far())
        self._inner = self._make(replace(self.ctx, continuation=None), self.notes)
        self._part = {}
        self.continuation = None
        self.is_finished = self.is_complete = self._is_concluded = False

    # Events.

    def _taken(self, events: Iterable[Event]) -> Iterator[Event]:
        """What the client is shown of the upstream's events at once: all but calls of the function; blocks have numbers of their own."""
        for event in events:
            if isinstance(event, Start):
                if not self._has_begun:
                    self._has_begun = True
                    yield event
                continue
            if isinstance(event, Used):
                yield Used(added_usage(self._before.spent, event.usage))
                continue
            index = getattr(event, "index", None)
            if index is None:
                yield self._ended(event) if isinstance(event, Stop) else event
                continue
            if isinstance(event, BlockStart):
                self._part[index] = _Said(event, None if self._is_search(event) else self._next_number())
            said = self._part[index]
            self._keep(said, event)
            if said.number is not None:
                yield msgspec.structs.replace(event, index=said.number)

    def _ended(self, stop: Stop) -> Stop:
        """The end of an answer with searches in it: they are no calls of the client's."""
        is_over = stop.reason == "tool_calls" and not self._has_calls()
        return msgspec.structs.replace(stop, reason="end") if is_over else stop

    def _keep(self, said: _Said, event: Event) -> None:
        if isinstance(event, Signature):
            said.seal = event
        elif (text := getattr(event, "text", None)) and (said.number is None or said.start.kind in _CONTENT):
            said.pieces.append(text)

    def _is_search(self, event: BlockStart) -> bool:
        return event.kind == "tool_call" and event.name == self._tool.name

    def _has_calls(self) -> bool:
        """Of the client's own tools."""
        return any(said.start.kind == "tool_call" and said.number is not None for said in self._part.values())

    def _next_number(self) -> int:
        self._number += 1
        return self._number - 1

    # Searches.

    def _conclude(self, *, can_pause: bool = True) -> Iterator[Event]:
        """The searches that this part of the answer wants, all of which came; the answer pauses for them where that can be."""
        if self._is_concluded:
            return
        self._is_concluded = True
        wanted = [said for said in self._part.values() if said.number is None]
        bound = min(self._tool.max_uses or MAX_USES, MAX_USES)
        queries = []
        for at, said in enumerate(wanted):
            call_id = said.start.call_id or f"search_{self._before.searches + at}"
            words = _query_in(said.text)
            is_over = self._before.searches + at >= bound
            queries.append(Query(call_id, words, "max_uses_exceeded" if is_over else None if words else "invalid_tool_input"))
            number = self._next_number()
            yield BlockStart(number, "search", call_id, self._tool.name, more=words)
            yield BlockStop(number)
        self._unrun = tuple(queries)
        if queries and can_pause and not self._has_calls():
            turns = (*self._before.turns, Turn("assistant", tuple(self._blocks(queries)), _WHERE, 0))
            self.continuation = replace(self._before, queries=self._unrun, turns=turns)

    def _give_up(self) -> Iterator[Event]:
        """Searches that are not run: the client's own tools come first, or there were too many parts."""
        if self._unrun:
            self.notes.add("unrun", self._tool.name)
            found = [Found(error=query.error or "unavailable") for query in self._unrun]
            yield from found_events(self._unrun, found, self._number)
            self._number += len(found)
            self._unrun = ()

    def _blocks(self, queries: Sequence[Query]) -> Iterator[Block]:
        """What the model said in this part, as it goes back to it."""
        searches = iter(queries)
        for said in self._part.values():
            if said.number is None:
                query = next(searches)
                yield ToolCall(_WHERE, query.call_id, self._tool.name, said.text)
            elif said.start.kind == "thinking":
                yield Thinking(_WHERE, said.text, self._sealed(said.seal))
            elif said.text:
                yield Text(_WHERE, said.text)

    def _sealed(self, signature: Signature | None) -> str:
        ctx = self.ctx
        origin, value = (signature.origin, signature.value) if signature is not None else ("openai.chat", None)
        return ctx.sealer.seal(Sealed(ctx.upstream_name, ctx.target, origin, value)) if ctx.sealer is not None else ""


def _query_in(arguments: str) -> str:
    """What to search for; empty where the arguments don't say."""
    try:
        found: Any = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return ""
    query = found.get("query") if isinstance(found, dict) else None
    return query.strip() if isinstance(query, str) else ""
