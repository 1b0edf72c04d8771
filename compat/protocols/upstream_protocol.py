"""An upstream's half of a wire API, and how it is joined with a client's half.

translator(read, writer, upstream)    -> the translator for calls of the one to the other
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from compat.errors import GatewayError
from compat.protocols.base import TranslatedAnswer, TranslatedRequest, TranslationContext, Translator, WireApi
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.events import BlockStart, BlockStop, Start, Stop, TextDelta, Used
from compat.protocols.joined import EventReader, JoinedStream, MakeReader, answer_translator
from compat.protocols.notes import Notes
from compat.protocols.refusals import SEARCH_MARK, refused_parameter
from compat.protocols.request import Request
from compat.protocols.search import SearchingReader, with_function
from compat.protocols.summaries import recalled
from compat.protocols.upstream_errors import refusal_of
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage

NO_SEARCH = (
    "Web search is not configured in this gateway, so nothing was searched. It takes a search endpoint in its config.toml, for example of "
    'SearXNG: [search] url = "http://127.0.0.1:8080/search"'
)


def error_of(status: int, headers: Mapping[str, str], body: bytes, ctx: TranslationContext) -> GatewayError:
    """The error for a refused call, by its status and by what OpenAI's and Anthropic's errors have in common."""
    return refusal_of(status, headers, body, ctx.upstream_name)


@dataclass(frozen=True, slots=True)
class UpstreamProtocol:
    """Pure functions for one wire API on the upstream's side.

    `request` writes the body for the upstream, which may hold what `ctx` says it refused no longer; what it can't say it notes, or raises
    `Unsupported` with the client's place. `None`: only calls of the same API come here, as bytes. `reader` makes the reader of answers.
    `error` and `refused` as in `Translator`. `searches`: its service searches the web by itself, where it does not refuse to.
    """

    api: WireApi
    reader: MakeReader
    request: Callable[[Request, TranslationContext], TranslatedRequest] | None = None
    error: Callable[[int, Mapping[str, str], bytes, TranslationContext], GatewayError] = error_of
    refused: Callable[[GatewayError], str | None] = refused_parameter
    searches: bool = False


def searching(relay: Translator, translated: Translator, only_searches: Callable[[Envelope], bool]) -> Translator:
    """A relay that leaves searches of the web to a translation, at services that run none."""

    def is_search(envelope: Envelope, ctx: TranslationContext) -> bool:
        return ctx.subset is not None and "web_search" not in ctx.subset.tools and only_searches(envelope)

    def foregone(envelope: Envelope, ctx: TranslationContext) -> TranslatedAnswer | None:
        found = translated.foregone
        return found(envelope, ctx) if found is not None and is_search(envelope, ctx) else None

    return replace(
        relay,
        request=lambda envelope, ctx: (translated if ctx.searches and is_search(envelope, ctx) else relay).request(envelope, ctx),
        response=lambda body, ctx: (translated if ctx.memory.runs_search else relay).response(body, ctx),
        stream=lambda ctx: (translated if ctx.memory.runs_search else relay).stream(ctx),
        foregone=foregone,
    )


def _remembering(translated: TranslatedRequest, asked: Request) -> TranslatedRequest:
    """The translated request with what its answer must know of the client's."""
    memory = translated.memory
    if (display := asked.reasoning.display) in {"omitted", "dropped"}:
        memory = replace(memory, hides_thinking=display == "omitted", drops_thinking=display == "dropped")
    if asked.shapes or asked.echoed or asked.summarises:
        memory = replace(memory, tools=asked.shapes, echoed=asked.echoed, summarises=asked.summarises)
    return translated if memory is translated.memory else replace(translated, memory=memory)


def joined(client: ClientProtocol, upstream: UpstreamProtocol) -> Translator | None:
    """The translator from a client's protocol to an upstream's; `None` where one of the halves does no requests or no answers."""
    read, writer, write, only_searches = client.request, client.writer, upstream.request, client.only_searches
    if read is None or writer is None or write is None:
        return None

    def request(envelope: Envelope, ctx: TranslationContext) -> TranslatedRequest:
        asked = read(envelope)
        if asked.has_summaries:
            asked = recalled(asked, ctx.sealer)
        runs_search = asked.search is not None and ctx.searches and not has_search(ctx)
        if runs_search:
            asked = with_function(asked, ctx.continuation)
        translated = write(asked, replace(ctx, continuation=None) if runs_search else ctx)
        if asked.changes:
            translated = replace(translated, notes=(*asked.changes, *translated.notes))
        translated = _remembering(translated, asked)
        if runs_search or (asked.search is not None and has_search(ctx)):
            translated = replace(translated, memory=replace(translated.memory, search=asked.search, runs_search=runs_search))
        return translated

    def has_search(ctx: TranslationContext) -> bool:
        return upstream.searches and SEARCH_MARK not in ctx.refused_parameters

    def reader(ctx: TranslationContext, notes: Notes) -> EventReader:
        return SearchingReader(upstream.reader, ctx, notes) if ctx.memory.runs_search else upstream.reader(ctx, notes)

    def foregone(envelope: Envelope, ctx: TranslationContext) -> TranslatedAnswer | None:
        if ctx.searches or only_searches is None or not only_searches(envelope) or has_search(ctx):
            return None
        events = (Start(), BlockStart(0, "text"), TextDelta(0, NO_SEARCH), BlockStop(0), Stop("end"), Used(Usage()))
        return TranslatedAnswer(writer(ctx, Notes()).body(events), Usage(), client.end_reason, ("search=not_configured",))

    make_reader = reader if client.searches else upstream.reader
    return Translator(
        request=request,
        response=answer_translator(make_reader, writer),
        stream=lambda ctx: JoinedStream(ctx, make_reader, writer),
        foregone=foregone if only_searches is not None else None,
        error=upstream.error,
        refused=upstream.refused,
        endpoint=upstream.api,
    )
