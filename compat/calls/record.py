"""The record of a call: what the log, metrics and reports get. No prompt, no answer, no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compat.errors import GatewayError
from compat.protocols.base import note_values

if TYPE_CHECKING:
    from compat.calls.attempt import Attempt
    from compat.calls.run import CallRun


def record_of(run: CallRun, outcome: str, error: GatewayError | None) -> dict[str, object]:
    """The record of a call that is over. `outcome` is `ok`, `error` or `cancelled`; times are milliseconds."""
    call, attempt = run.call, run.attempt
    now_s = run.gateway.clock.monotonic()
    record: dict[str, object] = {
        "request_id": call.request_id,
        "client": call.client,
        "model": call.model,
        "deployment": attempt.deployment.name if attempt else None,
        "attempts": run.attempts,
        "stream": call.is_stream,
        "outcome": outcome,
        "status": error.status if error else 499 if outcome == "cancelled" else 200,
        "duration_ms": round((now_s - call.received_s) * 1000, 1),
        "bytes_in": len(call.envelope.body),
        "bytes_out": run.bytes_out,
    }
    if call.wire_api != "openai.chat":
        record["endpoint"] = call.wire_api.partition(".")[2]
    if run.first_content_s is not None:
        record["ttft_ms"] = round((run.first_content_s - call.received_s) * 1000, 1)
    if run.died:
        record["carried_on_from"] = [deployment.name for deployment in run.died]
    if attempt is not None:
        record |= _of_attempt(run, attempt)
    if run.account.verdict:
        record["cache"] = run.account.verdict
    if error is not None:
        record["error"] = error.message
        record["code"] = error.code
    return record


def _of_attempt(run: CallRun, attempt: Attempt) -> dict[str, object]:
    """What is known of the attempt that ended the call; tokens and cost are those of the whole answer."""
    record: dict[str, object] = {}
    usage, cost_usd = run.used
    if usage is not None:
        record["prompt_tokens"] = usage.prompt_tokens
        record["completion_tokens"] = usage.completion_tokens
        record["cache_read_tokens"] = usage.cache_read_tokens
        record["cache_write_tokens"] = usage.cache_write_tokens
        record["cost_usd"] = cost_usd
        if usage.is_estimate:
            record["is_estimate"] = True
        elif attempt.segments:
            lost = run.gateway.cache_watch.first_change(
                run.call.client, run.call.session_id, attempt.deployment.name, attempt.segments, usage
            )
            if lost is not None:
                record["cache_lost"] = lost
    if attempt.finish_reason:
        record["finish_reason"] = attempt.finish_reason
    if attempt.notes:
        record["notes"] = note_values(attempt.notes)
    return record
