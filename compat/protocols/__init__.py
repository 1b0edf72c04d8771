"""Pure translations between wire APIs, one module (and its parts) per pair."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from compat.protocols.base import ClientApi, Translator, WireApi
from compat.protocols.chat.client import CHAT
from compat.protocols.chat.completions import OPENAI_COMPLETIONS, endpoint_mark, endpoint_of, over_chat
from compat.protocols.chat.completions_client import COMPLETIONS
from compat.protocols.chat.embeddings import EMBEDDINGS, OPENAI_EMBEDDINGS
from compat.protocols.chat.llama import OPENAI_LLAMA
from compat.protocols.chat.passthrough import OPENAI_OPENAI
from compat.protocols.chat.upstream import ChatReader
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.messages.from_chat import OPENAI_ANTHROPIC
from compat.protocols.messages.reader import MessagesReader
from compat.wire.envelope import Envelope

TRANSLATORS: Mapping[tuple[ClientApi, WireApi], Translator] = MappingProxyType(
    {
        ("openai.chat", "openai.chat"): OPENAI_OPENAI,
        ("openai.chat", "anthropic.messages"): OPENAI_ANTHROPIC,
        ("openai.chat", "llama.chat"): OPENAI_LLAMA,
        ("openai.completions", "llama.chat"): over_chat(OPENAI_OPENAI, ChatReader),
        ("openai.completions", "openai.chat"): over_chat(OPENAI_OPENAI, ChatReader),
        ("openai.completions", "anthropic.messages"): over_chat(OPENAI_ANTHROPIC, MessagesReader),
        ("openai.embeddings", "openai.chat"): OPENAI_EMBEDDINGS,
    }
)
"""(client's wire API, upstream's wire API) -> how to get from one to the other."""


CLIENT_PROTOCOLS: Mapping[ClientApi, ClientProtocol] = MappingProxyType({one.api: one for one in (CHAT, COMPLETIONS, EMBEDDINGS)})
"""What the core asks of each client's protocol."""


_BY_PATH: Mapping[str, ClientProtocol] = MappingProxyType({path: one for one in CLIENT_PROTOCOLS.values() for path in one.paths})


def protocol_at(path: str) -> ClientProtocol:
    """The protocol that is spoken at a URL; errors of all others have OpenAI's shape."""
    return _BY_PATH.get(path, CHAT)


def translator_for(
    client: ClientApi, upstream: WireApi, envelope: Envelope, endpoints: Collection[str], refused: Collection[str]
) -> Translator | None:
    """How a call gets to an upstream that has these `endpoints`, of which it was seen to refuse some; `None` where there is no way.

    A completion goes to the endpoint for completions where there is one, else to the chat.
    """
    if client == "openai.completions":
        endpoint = endpoint_of(envelope)
        if endpoint in endpoints and endpoint_mark(endpoint) not in refused:
            return OPENAI_COMPLETIONS[endpoint]
    return TRANSLATORS.get((client, upstream))
