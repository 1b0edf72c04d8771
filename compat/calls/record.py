"""The record of a call: what the log, metrics and reports get. No prompt, no answer, no secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from compat.accounting.usage_rows import CallFacts
from compat.accounting.usage_views import FailedAttempt
from compat.calls.call import Call
from compat.calls.tool_frames import ToolFrames
from compat.config.catalog import Price
from compat.errors import GatewayError
from compat.protocols.base import note_values
from compat.telemetry.fields import STOP_REASON, USUAL_ENDPOINT
from compat.telemetry.traces import Moment
from compat.wire.usage import Usage

Result = Literal["ok", "error", "cancelled"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, and what came of it.

    `ended_s` and `first_content_s` are the clock's times, `attempts` counts all that were made. `deployment` is the last one that was
    asked, `died` are those that died in the middle of the answer. `usage` and `cost_usd` are those of the whole answer. `cache` is the
    answer cache's verdict, `cache_lost` the part of the prompt from which on the upstream's own cache did not hold. `upstream_api` is the
    last one's wire API, `queued_s` how long the call waited for room, `priced` are the counts of each part of the answer with its price.
    """

    call: Call
    result: Result
    error: GatewayError | None
    ended_s: float
    attempts: int
    bytes_out: int
    first_content_s: float | None = None
    deployment: str | None = None
    died: tuple[str, ...] = ()
    usage: Usage | None = None
    cost_usd: float = 0.0
    stop_reason: str | None = None
    notes: tuple[str, ...] = ()
    cache: str = ""
    cache_lost: str | None = None
    upstream_api: str = ""
    queued_s: float = 0.0
    priced: tuple[tuple[Usage, Price], ...] = ()

    @property
    def status(self) -> int:
        """The HTTP status that the client got, or would have got."""
        return self.call.protocol.error_status(self.error) if self.error else 499 if self.result == "cancelled" else 200


def record_of(outcome: Outcome) -> dict[str, object]:
    """The record of a call that is over; times are milliseconds."""
    call, error = outcome.call, outcome.error
    record: dict[str, object] = {
        "request_id": call.request_id,
        "client": call.client,
        "model": call.model,
        "deployment": outcome.deployment,
        "attempts": outcome.attempts,
        "stream": call.is_stream,
        "outcome": outcome.result,
        "status": outcome.status,
        "duration_ms": round((outcome.ended_s - call.received_s) * 1000, 1),
        "bytes_in": len(call.envelope.body),
        "bytes_out": outcome.bytes_out,
    }
    if call.protocol.endpoint != USUAL_ENDPOINT:
        record["endpoint"] = call.protocol.endpoint
    if outcome.first_content_s is not None:
        record["ttft_ms"] = round((outcome.first_content_s - call.received_s) * 1000, 1)
    if outcome.died:
        record["carried_on_from"] = list(outcome.died)
    if outcome.usage is not None:
        record |= _counts(outcome.usage, outcome.cost_usd)
    told = {
        "cache_lost": outcome.cache_lost,
        STOP_REASON: outcome.stop_reason,
        "notes": note_values(outcome.notes),
        "cache": outcome.cache,
    }
    record |= {name: value for name, value in told.items() if value}
    if error is not None:
        record |= {"error": error.message, "code": error.code}
    return record


def _counts(usage: Usage, cost_usd: float) -> dict[str, object]:
    counts: dict[str, object] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cost_usd": cost_usd,
    }
    return {**counts, "is_estimate": True} if usage.is_estimate else counts


def facts_of(outcome: Outcome, moments: Sequence[Moment], tools: ToolFrames | None) -> CallFacts:
    """What the usage store is given of a call that is over besides its record."""
    call = outcome.call
    session, parent = _place_of(call)
    return CallFacts(
        call.protocol.api,
        outcome.upstream_api,
        session,
        parent,
        outcome.queued_s * 1000,
        tuple(map(_failed_at, moments)),
        outcome.priced,
        tools.counted if tools is not None else dict,
        1 + tools.kept_bytes // 4096 if tools is not None else 1,
    )


def _failed_at(moment: Moment) -> FailedAttempt:
    """The attempt that was over before the call was."""
    one = moment.fields
    return FailedAttempt(str(one["deployment"]), str(one["error"]), str(one["code"] or ""), str(one["then"]), cast("float", one["wait_ms"]))


def _place_of(call: Call) -> tuple[str, str]:
    """The session of a call, and the one that began it: a sub-agent is a session of its own, named after the agent's."""
    if call.agent_id and call.session_id:
        above = f"{call.session_id}/{call.parent_id}" if call.parent_id else call.session_id
        return f"{call.session_id}/{call.agent_id}", above
    return call.session_id, call.parent_id if call.session_id else ""
