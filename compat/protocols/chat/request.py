"""The client's half of OpenAI's chat protocol: a call as a neutral request.

    turns        messages, with their parts (parts)
    tools        tools and the choice among them
    parameters   everything else

Nothing is left out: what has no neutral place is in `extras`, and an upstream's half notes what it can't say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.protocols.chat.chunks import API
from compat.protocols.chat.parameters import (
    changes_in,
    read_answers,
    read_extras,
    read_fields,
    read_format,
    read_limit,
    read_reasoning,
    read_sampling,
    read_stop,
    read_user,
    read_verbosity,
)
from compat.protocols.chat.tools import read_choice, read_tools
from compat.protocols.chat.turns import read_turns
from compat.protocols.marks import mark_in
from compat.protocols.request import Request
from compat.wire.envelope import Envelope


def read_request(envelope: Envelope) -> Request:
    """The client's call. Errors: `BadRequest`, `Unsupported`, in this protocol's words."""
    fields = read_fields(envelope)
    answers, extras = read_answers(fields), read_extras(envelope)
    limit, names = read_limit(fields)
    parallel, store, tier = fields.get("parallel_tool_calls"), fields.get("store"), _text(fields, "service_tier")
    user_id, metadata, unread = read_user(fields)
    if not tier and fields.get("service_tier") is not None:
        unread.append("service_tier")
    return Request(
        api=API,
        answers=answers,
        extras=extras,
        changes=changes_in(fields),
        limit=limit,
        names=names,
        reasoning=read_reasoning(fields),
        format=read_format(fields),
        sampling=read_sampling(fields),
        stop=read_stop(fields),
        turns=read_turns(fields.get("messages")),
        tools=() if fields.get("tools") is None else read_tools(fields["tools"]),
        choice=None if fields.get("tool_choice") is None else read_choice(fields["tool_choice"]),
        parallel=parallel if isinstance(parallel, bool) else None,
        verbosity=read_verbosity(envelope),
        user_id=user_id,
        metadata=metadata,
        cache_key=_text(fields, "prompt_cache_key") or _text(fields, "promptCacheKey"),
        service_tier=tier,
        store=store if isinstance(store, bool) else None,
        cache=None if fields.get("cache_control") is None else mark_in(fields["cache_control"]),
        unread=tuple(unread),
        size_bytes=len(envelope.body),
        was_repaired=envelope.was_repaired,
        has_marks=b"cache_control" in envelope.body,
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
