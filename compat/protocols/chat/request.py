"""The client's half of OpenAI's chat protocol: a call as a neutral request.

    turns        messages, with their parts (parts)
    tools        tools and the choice among them
    parameters   everything else

Nothing is left out: what has no neutral place is in `extras`, and an upstream's half notes what it can't say.
"""

from __future__ import annotations

from compat.protocols.chat.parameters import (
    read_answers,
    read_extras,
    read_format,
    read_limit,
    read_reasoning,
    read_sampling,
    read_stop,
    read_user,
    read_verbosity,
)
from compat.protocols.chat.parts import API
from compat.protocols.chat.tools import read_choice, read_tools
from compat.protocols.chat.turns import read_turns
from compat.protocols.marks import mark_in
from compat.protocols.request import Request
from compat.wire.envelope import Envelope


def read_request(envelope: Envelope) -> Request:
    """The client's call. Errors: `BadRequest`, `Unsupported`, in this protocol's words."""
    answers, extras = read_answers(envelope), read_extras(envelope)
    limit, names = read_limit(envelope)
    parallel, store, tier = envelope.value("parallel_tool_calls"), envelope.value("store"), _text(envelope, "service_tier")
    user_id, metadata, unread = read_user(envelope)
    if not tier and "service_tier" in envelope and not envelope.is_null("service_tier"):
        unread.append("service_tier")
    return Request(
        api=API,
        answers=answers,
        extras=extras,
        limit=limit,
        names=names,
        reasoning=read_reasoning(envelope),
        format=read_format(envelope),
        sampling=read_sampling(envelope),
        stop=read_stop(envelope),
        turns=read_turns(envelope.value("messages")),
        tools=read_tools(envelope.value("tools")),
        choice=read_choice(envelope.value("tool_choice")),
        parallel=parallel if isinstance(parallel, bool) else None,
        verbosity=read_verbosity(envelope),
        user_id=user_id,
        metadata=metadata,
        cache_key=_text(envelope, "prompt_cache_key") or _text(envelope, "promptCacheKey"),
        service_tier=tier,
        store=store if isinstance(store, bool) else None,
        cache=mark_in(envelope.value("cache_control")),
        unread=tuple(unread),
        size_bytes=len(envelope.body),
        was_repaired=envelope.was_repaired,
    )


def _text(envelope: Envelope, name: str) -> str:
    value = envelope.value(name)
    return value if isinstance(value, str) else ""
