"""`count_tokens` of the Messages API, to an upstream that has it: the model's name is changed, thoughts that are ours are taken out."""

from __future__ import annotations

from dataclasses import replace

from compat import jsonio
from compat.errors import BadRequest, UpstreamBroken
from compat.protocols.base import TranslatedAnswer, TranslationContext, Translator, no_stream
from compat.protocols.messages.client import MESSAGES
from compat.protocols.messages.relay import QUERIES, refused, translate_error, translate_request

ENDPOINT = "anthropic.count"


def written(tokens: int) -> bytes:
    """The answer's body."""
    return jsonio.encode({"input_tokens": tokens})


def counted(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """The upstream's count as it came. Errors: `UpstreamBroken`."""
    try:
        document = jsonio.decode(body, "The answer")
    except BadRequest as error:
        raise UpstreamBroken(f"{ctx.upstream_name} sent a count that is not JSON.") from error
    tokens = document.get("input_tokens") if isinstance(document, dict) else None
    if not isinstance(tokens, int) or isinstance(tokens, bool):
        raise UpstreamBroken(f"{ctx.upstream_name} sent no count of tokens.")
    return TranslatedAnswer(body, None, None)


COUNT_COUNT = Translator(
    request=translate_request,
    response=counted,
    stream=no_stream,
    error=translate_error,
    refused=refused,
    endpoint=ENDPOINT,
    queries=QUERIES,
)

COUNT = replace(
    MESSAGES,
    api="anthropic.count",
    endpoint="count_tokens",
    paths=("/v1/messages/count_tokens",),
    request=None,
    writer=None,
    obstacle=None,
    rescue=None,
    listing=None,
    count=None,
    shares=False,
    is_served=False,
    is_parent=False,
)
