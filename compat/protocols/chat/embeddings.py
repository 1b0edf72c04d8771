"""Embeddings to an upstream of the same wire API: the model's name is changed, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from compat import jsonio
from compat.errors import BadRequest, UpstreamBroken
from compat.protocols.base import TranslatedAnswer, TranslatedRequest, TranslationContext, Translator, no_stream
from compat.protocols.chat.client import CHAT
from compat.protocols.chat.usage import usage_of
from compat.protocols.client_protocol import Ask, model_of
from compat.protocols.upstream_protocol import error_of
from compat.wire.envelope import Envelope


def translate_request(envelope: Envelope, ctx: TranslationContext) -> TranslatedRequest:
    """The client's body for this upstream (see `Translator.request`)."""
    return TranslatedRequest(envelope.replaced({"model": jsonio.encode(ctx.target)}))


def translate_answer(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """The upstream's answer, and its counts. Errors: `UpstreamBroken`."""
    try:
        document = jsonio.decode(body, "The answer")
    except BadRequest as error:
        raise UpstreamBroken(f"{ctx.upstream_name} sent an answer that is not JSON.") from error
    if not isinstance(document, dict):
        raise UpstreamBroken(f"{ctx.upstream_name} sent an answer that is not an object.")
    usage = document.get("usage")
    return TranslatedAnswer(body, usage_of(usage) if isinstance(usage, dict) else None, None)


OPENAI_EMBEDDINGS = Translator(
    request=translate_request,
    response=translate_answer,
    stream=no_stream,
    error=error_of,
    refused=lambda _: None,
    endpoint="embeddings",
)

EMBEDDINGS = replace(
    CHAT,
    api="openai.embeddings",
    endpoint="embeddings",
    paths=("/v1/embeddings",),
    read=lambda envelope, _: Ask(model_of(envelope), output_limit=0),
    prompt=("input",),
    opening=lambda _: [b""],
    request=None,
    writer=None,
    obstacle=None,
    check=None,
    rescue=None,
    is_served=False,
)
