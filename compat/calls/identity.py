"""By which names upstreams and the vault know a conversation, and whoever thinks in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypedDict

from compat.calls.call import Call
from compat.protocols.base import ThinkingRecord, Translator
from compat.routing.affinity import session_of
from compat.routing.router import Deployment
from compat.upstream.client import Secret
from compat.vault.buffered import ThinkingVault

SEALING = "openai.responses"
"""The wire API on which an upstream seals what a model thought, and wants to know which calls share a prompt."""


def thinker_of(deployment: Deployment, translator: Translator, key: Secret | None) -> str:
    """Whose thinking an answer holds, for the vault: a model's, or where it is sealed, a model's at one account."""
    if translator.endpoint != SEALING:
        return deployment.target
    account = f"{deployment.upstream.base_url}\n{key.reveal() if key is not None else ''}"
    return f"{deployment.target}\n{hashlib.blake2b(account.encode(), digest_size=16).hexdigest()}"


class Memories(TypedDict):
    """What a translation may look up of the conversation: fields of `TranslationContext`."""

    find_thinking: Callable[[Sequence[str]], Mapping[str, ThinkingRecord]]
    session: str


def memories(vault: ThinkingVault, call: Call, deployment: Deployment, translator: Translator, key: Secret | None) -> Memories:
    """Those of a call that goes to a deployment by this translator. They hold no attempt, which holds them."""
    return {
        "find_thinking": lambda ids: vault.find(call.client, thinker_of(deployment, translator, key), ids),
        "session": session_named(call) if translator.endpoint == SEALING else "",
    }


def session_named(call: Call) -> str:
    """A name of the conversation that says nothing of it, for an upstream that wants one."""
    return session_of(call.client, call.session_id, partial(call.protocol.opening, call.envelope))
