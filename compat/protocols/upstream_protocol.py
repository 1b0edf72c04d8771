"""An upstream's half of a wire API, and how it is joined with a client's half.

translator(read, writer, upstream)    -> the translator for calls of the one to the other
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from compat.errors import GatewayError
from compat.protocols.base import TranslatedRequest, TranslationContext, Translator, WireApi
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.joined import JoinedStream, MakeReader, answer_translator
from compat.protocols.refusals import refused_parameter
from compat.protocols.request import Request
from compat.protocols.upstream_errors import refusal_of
from compat.wire.envelope import Envelope


def error_of(status: int, headers: Mapping[str, str], body: bytes, ctx: TranslationContext) -> GatewayError:
    """The error for a refused call, by its status and by what OpenAI's and Anthropic's errors have in common."""
    return refusal_of(status, headers, body, ctx.upstream_name)


@dataclass(frozen=True, slots=True)
class UpstreamProtocol:
    """Pure functions for one wire API on the upstream's side.

    `request` writes the body for the upstream, which may hold what `ctx` says it refused no longer; what it can't say it notes, or raises
    `Unsupported` with the client's place. `None`: only calls of the same API come here, as bytes. `reader` makes the reader of answers.
    `error` and `refused` as in `Translator`.
    """

    api: WireApi
    reader: MakeReader
    request: Callable[[Request, TranslationContext], TranslatedRequest] | None = None
    error: Callable[[int, Mapping[str, str], bytes, TranslationContext], GatewayError] = error_of
    refused: Callable[[GatewayError], str | None] = refused_parameter


def joined(client: ClientProtocol, upstream: UpstreamProtocol) -> Translator | None:
    """The translator from a client's protocol to an upstream's; `None` where one of the halves does no requests or no answers."""
    read, writer, write = client.request, client.writer, upstream.request
    if read is None or writer is None or write is None:
        return None

    def request(envelope: Envelope, ctx: TranslationContext) -> TranslatedRequest:
        asked = read(envelope)
        translated = write(asked, ctx)
        if asked.changes:
            translated = replace(translated, notes=(*asked.changes, *translated.notes))
        if asked.reasoning.display == "omitted":
            translated = replace(translated, memory=replace(translated.memory, hides_thinking=True))
        if asked.shapes or asked.echoed:
            translated = replace(translated, memory=replace(translated.memory, tools=asked.shapes, echoed=asked.echoed))
        return translated

    return Translator(
        request=request,
        response=answer_translator(upstream.reader, writer),
        stream=lambda ctx: JoinedStream(ctx, upstream.reader, writer),
        error=upstream.error,
        refused=upstream.refused,
        endpoint=upstream.api,
    )
