"""Pure translations between wire APIs, each made of two halves: the client's and the upstream's.

A new protocol is a folder, and a row in `CLIENT_PROTOCOLS` for what clients speak, in `UPSTREAMS` for what upstreams do. Pairs follow from
the halves. Where both sides speak the same API the bytes pass, and there is a row in `_SAME`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from compat.protocols.base import ClientApi, Translator, WireApi
from compat.protocols.chat.client import CHAT
from compat.protocols.chat.completions import OPENAI_COMPLETIONS, endpoint_of, over_chat
from compat.protocols.chat.completions_client import COMPLETIONS
from compat.protocols.chat.embeddings import EMBEDDINGS, OPENAI_EMBEDDINGS
from compat.protocols.chat.llama import LLAMA_UPSTREAM, OPENAI_LLAMA
from compat.protocols.chat.passthrough import OPENAI_OPENAI
from compat.protocols.chat.upstream import CHAT_UPSTREAM
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.listing import Listing
from compat.protocols.messages.client import MESSAGES, only_searches
from compat.protocols.messages.counting import COUNT, COUNT_COUNT
from compat.protocols.messages.relay import MESSAGES_MESSAGES
from compat.protocols.messages.upstream import MESSAGES_UPSTREAM
from compat.protocols.refusals import endpoint_mark
from compat.protocols.responses.client import RESPONSES
from compat.protocols.responses.compaction import compacting
from compat.protocols.responses.counting import INPUT_COUNT, INPUT_COUNT_COUNT
from compat.protocols.responses.relay import RESPONSES_RESPONSES
from compat.protocols.responses.upstream import RESPONSES_UPSTREAM
from compat.protocols.upstream_protocol import UpstreamProtocol, joined, searching
from compat.wire.envelope import Envelope

CLIENT_PROTOCOLS: Mapping[ClientApi, ClientProtocol] = MappingProxyType(
    {one.api: one for one in (CHAT, MESSAGES, RESPONSES, COMPLETIONS, EMBEDDINGS, COUNT, INPUT_COUNT)}
)
"""What clients speak: what the core asks of it, and its half of translations."""

UPSTREAMS: Mapping[WireApi, UpstreamProtocol] = MappingProxyType(
    {one.api: one for one in (CHAT_UPSTREAM, LLAMA_UPSTREAM, MESSAGES_UPSTREAM, RESPONSES_UPSTREAM)}
)
"""What upstreams speak."""

_TRANSLATED = joined(MESSAGES, MESSAGES_UPSTREAM) or MESSAGES_MESSAGES
_SAME: Mapping[tuple[ClientApi, WireApi], Translator] = {
    ("openai.chat", "openai.chat"): OPENAI_OPENAI,
    ("openai.chat", "llama.chat"): OPENAI_LLAMA,
    ("openai.embeddings", "openai.chat"): OPENAI_EMBEDDINGS,
    ("anthropic.messages", "anthropic.messages"): searching(MESSAGES_MESSAGES, _TRANSLATED, only_searches),
    ("anthropic.count", "anthropic.messages"): COUNT_COUNT,
    ("openai.count", "openai.responses"): INPUT_COUNT_COUNT,
    ("openai.responses", "openai.responses"): compacting(RESPONSES_RESPONSES, joined(RESPONSES, RESPONSES_UPSTREAM) or RESPONSES_RESPONSES),
}
"""Bytes pass: they are never decoded further than they must be."""


def pairs_of(upstream: UpstreamProtocol) -> dict[tuple[ClientApi, WireApi], Translator]:
    """How calls get to upstreams of this protocol: by (client's wire API, this one)."""
    api = upstream.api
    pairs = {(client.api, api): _SAME.get((client.api, api)) or joined(client, upstream) for client in CLIENT_PROTOCOLS.values()}
    chat = pairs["openai.chat", api]
    if chat is not None:
        pairs["openai.completions", api] = over_chat(chat, upstream.reader)
    return {pair: translator for pair, translator in pairs.items() if translator is not None}


TRANSLATORS: Mapping[tuple[ClientApi, WireApi], Translator] = MappingProxyType(
    {pair: translator for upstream in UPSTREAMS.values() for pair, translator in pairs_of(upstream).items()}
)
"""(client's wire API, upstream's wire API) -> how to get from one to the other."""


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_BY_PATH: Mapping[str, ClientProtocol] = MappingProxyType({path: one for one in CLIENT_PROTOCOLS.values() for path in one.paths})


_SHARED_PATH = "/v1/models"
_LISTINGS = tuple(one.listing for one in CLIENT_PROTOCOLS.values() if one.listing is not None)
_BY_LISTING = tuple((one.listing, one) for one in CLIENT_PROTOCOLS.values() if one.listing is not None)


def protocol_at(path: str, environ: Mapping[str, Any] = _NOTHING) -> ClientProtocol:
    """The protocol that is spoken at a URL, and below it; where several protocols share one, that of the request's headers. Errors of all
    others have OpenAI's shape."""
    if (found := _BY_PATH.get(path)) is not None:
        return found
    if path.startswith(_SHARED_PATH):
        return next((one for listing, one in _BY_LISTING if listing.is_asked(environ)), CHAT)
    return next((one for base, one in _BY_PATH.items() if path.startswith(f"{base}/")), CHAT)


def listing_for(environ: Mapping[str, Any]) -> Listing | None:
    """The form in which a client reads the list of models; `None` for OpenAI's."""
    return next((listing for listing in _LISTINGS if listing.is_asked(environ)), None)


def api_for(client: ClientApi, apis: Iterable[WireApi]) -> WireApi | None:
    """By which of these APIs a client's calls go: its own where it is among them, else the first that they can be translated to."""
    first = None
    for api in apis:
        if (client, api) in TRANSLATORS:
            if api == client:
                return api
            first = first or api
    return first


def translator_for(
    client: ClientApi, apis: Iterable[WireApi], envelope: Envelope, endpoints: Collection[str], refused: Collection[str]
) -> Translator | None:
    """How a call gets to an upstream that speaks these `apis`, and has other `endpoints`, of which it was seen to refuse some.

    A completion goes to the endpoint for completions where there is one, else to the chat. `None` where there is no way.
    """
    if client == "openai.completions":
        endpoint = endpoint_of(envelope)
        if endpoint in endpoints and endpoint_mark(endpoint) not in refused:
            return OPENAI_COMPLETIONS[endpoint]
    api = api_for(client, apis)
    return None if api is None else TRANSLATORS[client, api]
