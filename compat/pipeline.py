"""One call from start to end.

    CallRun(gateway, call).whole()   -> the body of a whole answer
    CallRun(gateway, call).frames()  -> the frames of a streamed answer, heartbeats among them

Each deployment of the route gets an attempt (`compat/attempt.py`): translation may run again, for inputs are never changed. The *commit
point* is the first content of the answer: before it another attempt may be made, after it the stream is carried on or ended with an error
event. Whatever happens, the upstream is closed and one record goes to the log.

Attempts hand out a heartbeat whenever the client has heard nothing for too long; `whole` drops them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from compat.attempt import Attempt, Pulse, Steps, T
from compat.call import Call
from compat.errors import GatewayError
from compat.gateway import Gateway
from compat.routing.router import Deployment
from compat.translate.base import note_values
from compat.wire.usage import cost_of


@dataclass(slots=True)
class CallRun:
    """The progress of one call; the endpoint reads `headers` when it knows the first bytes of the answer. One use only."""

    gateway: Gateway
    call: Call
    attempts: int = 0
    _attempt: Attempt | None = None
    _pulse: Pulse = field(init=False)
    _bytes_out: int = 0
    _is_settled: bool = False

    def __post_init__(self) -> None:
        self._pulse = Pulse(self.call.received_s, self.gateway.settings.server.heartbeat_s)

    def whole(self) -> bytes:
        """The body of the answer. Errors: any `GatewayError`, `ClientGone`."""
        self._begin()
        try:
            for attempt in self._plan():
                try:
                    body = _result(attempt.whole())
                except GatewayError as error:
                    self._attempt_failed(attempt, error)
                else:
                    self._bytes_out = len(body)
                    self._settle("ok", None)
                    return body
            raise AssertionError("unreachable: the last attempt's error leaves the loop")
        except GatewayError as error:
            self._settle("error", error)
            raise
        finally:
            self._settle("cancelled", None)

    def frames(self) -> Iterator[bytes]:
        """The frames of the answer. A `GatewayError` leaves only before the first frame; a later one becomes the last frame."""
        self._begin()
        has_begun = False
        clock = self.gateway.clock.monotonic
        try:
            for attempt in self._plan():
                try:
                    for frame in attempt.frames():
                        has_begun = True
                        self._pulse.last_frame_s = clock()
                        self._bytes_out += len(frame)
                        yield frame
                except GatewayError as error:
                    self._attempt_failed(attempt, error)
                else:
                    self._settle("ok", None)
                    return
        except GatewayError as error:
            self._settle("error", error)
            if not has_begun:
                raise
            yield error.frame()
        finally:
            is_complete = self._attempt is not None and self._attempt.is_complete
            self._settle("ok" if is_complete else "cancelled", None)

    def headers(self) -> list[tuple[str, str]]:
        """What the client is told about the way its call took."""
        attempt = self._attempt
        headers = [("x-compat-attempts", str(self.attempts))]
        if attempt is not None:
            headers.append(("x-compat-upstream", _header_text(attempt.deployment.name)))
            if attempt.notes:
                headers.append(("x-compat-notes", _header_text(note_values(attempt.notes))))
        return headers

    # Attempts.

    def _plan(self) -> Iterator[Attempt]:
        """An attempt for each deployment of the route, in turn, as many as the settings allow."""
        router = self.gateway.router
        order: list[Deployment] = router.order(router.resolve(self.call.model))
        for deployment in itertools.islice(itertools.cycle(order), self.gateway.settings.retry.attempts):
            self.attempts += 1
            self._attempt = Attempt(self.gateway, self.call, deployment, self._pulse)
            yield self._attempt

    def _attempt_failed(self, attempt: Attempt, error: GatewayError) -> None:
        """Let the next attempt be made, or raise `error` where none may be."""
        attempt.close()
        is_last = self.attempts >= self.gateway.settings.retry.attempts
        if attempt.first_content_s is not None or not error.retryable or is_last:
            raise error
        self.gateway.log.write(
            "attempt.failed",
            {"request_id": self.call.request_id, "deployment": attempt.deployment.name, "attempt": self.attempts, "error": error.message},
            "warning",
        )

    # Begin and end.

    def _begin(self) -> None:
        gauges = self.gateway.gauges
        gauges.in_flight += 1
        gauges.calls += 1

    def _settle(self, outcome: str, error: GatewayError | None) -> None:
        """Close the upstream, keep what later turns need, and write the record; the first call counts."""
        if self._is_settled:
            return
        self._is_settled = True
        gateway, attempt = self.gateway, self._attempt
        gateway.gauges.in_flight -= 1
        if attempt is not None:
            attempt.close()
            if attempt.thinking is not None:
                gateway.vault.keep(self.call.client, attempt.deployment.target, attempt.thinking)
        gateway.log.write("call", self._record(outcome, error), "error" if outcome == "error" and error and error.status >= 500 else "info")

    def _record(self, outcome: str, error: GatewayError | None) -> dict[str, object]:
        call, attempt = self.call, self._attempt
        now_s = self.gateway.clock.monotonic()
        record: dict[str, object] = {
            "request_id": call.request_id,
            "client": call.client,
            "model": call.model,
            "deployment": attempt.deployment.name if attempt else None,
            "attempts": self.attempts,
            "stream": call.is_stream,
            "outcome": outcome,
            "status": error.status if error else 499 if outcome == "cancelled" else 200,
            "duration_ms": round((now_s - call.received_s) * 1000, 1),
            "bytes_in": len(call.envelope.body),
            "bytes_out": self._bytes_out,
        }
        if attempt is not None:
            record |= self._of_attempt(attempt)
        if error is not None:
            record["error"] = error.message
            record["code"] = error.code
        return record

    def _of_attempt(self, attempt: Attempt) -> dict[str, object]:
        """What the record tells of the attempt that ended the call."""
        record: dict[str, object] = {}
        if attempt.first_content_s is not None:
            record["ttft_ms"] = round((attempt.first_content_s - self.call.received_s) * 1000, 1)
        usage = attempt.usage
        if usage is not None:
            record["prompt_tokens"] = usage.prompt_tokens
            record["completion_tokens"] = usage.completion_tokens
            record["cache_read_tokens"] = usage.cache_read_tokens
            record["cache_write_tokens"] = usage.cache_write_tokens
            record["cost_usd"] = cost_of(usage, attempt.deployment.model.price)
            if attempt.segments:
                watch, client = self.gateway.cache_watch, self.call.client
                lost = watch.first_change(client, attempt.deployment.name, attempt.segments, was_read=usage.cache_read_tokens > 0)
                if lost is not None:
                    record["cache_lost"] = lost
        if attempt.finish_reason:
            record["finish_reason"] = attempt.finish_reason
        if attempt.notes:
            record["notes"] = note_values(attempt.notes)
        return record


def _result(steps: Steps[T]) -> T:
    """Run steps to their end, dropping their heartbeats."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def _header_text(text: str) -> str:
    """`text` as a header can hold it: printable ASCII, bounded."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:1000])
