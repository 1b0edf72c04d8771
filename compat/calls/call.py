"""A call of a client: what is known of it before anything is done, and by which names others know its conversation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Required, TypedDict, Unpack

from compat.calls.gateway import Gateway
from compat.protocols.base import ThinkingRecord, TranslationContext, Translator
from compat.protocols.client_protocol import ClientProtocol
from compat.routing.affinity import session_of
from compat.routing.router import Deployment
from compat.upstream.client import Secret
from compat.vault.buffered import ThinkingVault
from compat.wire.envelope import Envelope
from compat.wire.estimate import prompt_tokens


class Origin(TypedDict, total=False):
    """Whose call it is, and what its headers say: see `Call`."""

    request_id: Required[str]
    client: Required[str]
    received_s: Required[float]
    session_id: str
    cache_wish: str
    trace_parent: str
    hops: int
    headers: Mapping[str, str]
    query: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client, checked as far as every call is.

    `session_id` is the client's own name for its conversation, `cache_wish` what it says about the answer cache (`x-compat-cache`),
    `trace_parent` the span that it is a part of, `hops` how many gateways it has come through, `headers` those that its protocol reads,
    `query` that of its URL.
    For the rest see `Ask`.
    """

    request_id: str
    protocol: ClientProtocol
    envelope: Envelope
    model: str
    is_stream: bool
    wants_usage: bool
    client: str
    received_s: float
    session_id: str = ""
    cache_wish: str = ""
    trace_parent: str = ""
    hops: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    output_limit: int | None = None
    answers_wanted: int = 1
    agent_id: str = ""
    parent_id: str = ""

    def most_output(self, bound: int) -> int:
        """How many tokens all answers may have of a model that gives at most `bound` in one."""
        most = bound if self.output_limit is None else min(self.output_limit, bound)
        return most * self.answers_wanted


def call_from(protocol: ClientProtocol, envelope: Envelope, **origin: Unpack[Origin]) -> Call:
    """The call that an envelope stands for. `BadRequest` when the keys that every call needs are missing or of the wrong type."""
    ask = protocol.read(envelope, origin.get("headers", {}))
    origin["session_id"] = origin.get("session_id", "") or ask.session_id
    return Call(
        protocol=protocol,
        envelope=envelope,
        model=ask.model,
        is_stream=ask.is_stream,
        wants_usage=ask.wants_usage,
        output_limit=ask.output_limit,
        answers_wanted=ask.answers_wanted,
        agent_id=ask.agent_id,
        parent_id=ask.parent_id,
        **origin,
    )


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
        "session": session_named(call) if _wants_session(call, deployment, translator) else "",
    }


def _wants_session(call: Call, deployment: Deployment, translator: Translator) -> bool:
    """Whether the upstream wants to know which calls share a prompt. Clients of its own chat say that themselves."""
    is_chat = translator.endpoint == "openai.chat" and call.protocol.api != "openai.chat"
    return translator.endpoint == SEALING or (is_chat and deployment.upstream.kind.knows_cache_key)


def session_named(call: Call) -> str:
    """A name of the conversation that says nothing of it, for an upstream that wants one."""
    return session_of(call.client, call.session_id, partial(call.protocol.opening, call.envelope))


def context_of(gateway: Gateway, call: Call, deployment: Deployment, translator: Translator, key: Secret | None) -> TranslationContext:
    """What the translation of a call may depend on, at this deployment."""
    clock, upstream = gateway.clock, deployment.upstream
    return TranslationContext(
        alias=call.model,
        target=deployment.target,
        model=deployment.model,
        completion_id=call.protocol.answer_id(clock.new_id()),
        created_s=int(clock.now()),
        is_stream=call.is_stream,
        wants_usage=call.wants_usage,
        sends_usage_option=upstream.kind.sends_usage_option,
        unwanted_fields=upstream.unwanted_fields,
        upstream_name=upstream.name,
        refused_parameters=gateway.refusals.of(deployment.name),
        **memories(gateway.vault, call, deployment, translator, key),
        count_prompt=partial(prompt_tokens, call.envelope, call.protocol.prompt),
        client_headers=call.headers,
        sealer=gateway.sealer() if call.protocol.seals else None,
        searches=gateway.search is not None,
        subset=upstream.kind.messages,
        takes_marks=upstream.kind.takes_marks,
        now=clock.now,
    )
