"""A call that is passed on whole: a JSON body in, a JSON answer out. Embeddings and plain completions go this way.

    PlainCall(gateway, "embeddings", route, body_for, ...).answer() -> the upstream's document

The policies are those of chat (`compat/routing/plan.py`): circuits, keys, affinity, admission, retries and failover; limits and budgets
count it. One record goes to the call log, the metrics and the usage store.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent

from compat import jsonio
from compat.errors import BadRequest, ClientGone, GatewayError, InternalError, UpstreamBroken, UpstreamTimeout
from compat.gateway import Gateway
from compat.limits import Reservation, estimate_of
from compat.pipeline import header_text
from compat.routing.admission import Ticket, outcome_of
from compat.routing.plan import CallPlan, Place
from compat.routing.router import Deployment, Route
from compat.translate.openai_usage import usage_of
from compat.translate.upstream_errors import refusal_of
from compat.upstream.http1 import Exchange, Head
from compat.wire.hops import hop_headers
from compat.wire.usage import Usage, cost_of

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_STEP_S = 1.0


@dataclass(slots=True)
class PlainCall:
    """One call. `endpoint` is a key of `UpstreamKind.paths`, `body_for` makes the body for a deployment, `output_tokens` is how long the
    answer may be. One use only.

    Mutable: `deployment`, where the answer came from, and what the record is told of.
    """

    gateway: Gateway
    endpoint: str
    route: Route
    body_for: Callable[[Deployment], bytes]
    request_id: str
    client: str
    received_s: float
    size_bytes: int
    output_tokens: int = 0
    trace_parent: str = ""
    hops: int = 0
    deployment: Deployment | None = None
    usage: Usage | None = None
    _plan: CallPlan = field(init=False)
    _reservation: Reservation | None = None
    _is_recorded: bool = False

    def __post_init__(self) -> None:
        total_s = max(deployment.upstream.timeouts.total_s for deployment in self.route.deployments)
        self._plan = CallPlan(self.gateway.policies, self.route, f"{self.endpoint}:{self.client}", self.received_s + total_s)

    def answer(self) -> dict[str, Any]:
        """The upstream's answer, decoded. Errors: any `GatewayError`; `ClientGone`."""
        self.gateway.gauges.enter()
        self.gateway.metrics.began()
        try:
            self._reservation = self.gateway.limits.admit(
                self.client, self.route.name, estimate_of(self.size_bytes, self.output_tokens, self.route.model.price)
            )
            document = self._attempts()
        except GatewayError as error:
            self._record("error", error)
            raise
        except (ClientGone, gevent.GreenletExit):
            self._record("cancelled", None)
            raise
        else:
            self._record("ok", None)
            return document
        finally:
            self.gateway.gauges.leave()
            if (failure := sys.exception()) is not None:
                self._record("error", InternalError(type(failure).__name__))

    @property
    def attempts(self) -> int:
        """How many attempts were made."""
        return self._plan.attempts

    def headers(self) -> list[tuple[str, str]]:
        """What the client is told about the way its call took, and what is left of its limits."""
        headers = [("x-compat-attempts", str(self.attempts))]
        if self.deployment is not None:
            headers.append(("x-compat-upstream", header_text(self.deployment.name)))
        return headers + (self._reservation.headers() if self._reservation is not None else [])

    def _attempts(self) -> dict[str, Any]:
        clock = self.gateway.clock.monotonic
        while True:
            place = self._plan.next()
            self.deployment = place.candidate.deployment
            try:
                document = self._attempt(place)
            except GatewayError as error:
                self.deployment.upstream.explain(error)
                decision = self._plan.failed(place, error, clock())
                if decision.action == "stop":
                    raise
                gevent.sleep(decision.wait_s)
            else:
                self._plan.succeeded(place)
                return document
            finally:
                self._plan.left(place)

    def _attempt(self, place: Place) -> dict[str, Any]:
        deployment = place.candidate.deployment
        gate = self.gateway.policies.gates.of(deployment.upstream.name)
        ticket: Ticket = gate.enter(self.client, self.size_bytes, False, self._plan.deadline_s)
        failure: GatewayError | None = None
        try:
            while not ticket.wait(_STEP_S):
                pass
            return self._exchange(place, self.body_for(deployment))
        except GatewayError as error:
            failure = error
            raise
        finally:
            ticket.release(outcome_of(failure))

    def _exchange(self, place: Place, body: bytes) -> dict[str, Any]:
        upstream = place.candidate.deployment.upstream
        exchange = self.gateway.transport.open(upstream, self.endpoint, body, hop_headers(self.hops), place.candidate.key)
        try:
            head = self._head(exchange, upstream.name, upstream.timeouts.first_byte_s)
            data = self._body(exchange, upstream.name, upstream.timeouts.silence_s)
        finally:
            exchange.close()
        if head.status != 200:
            raise refusal_of(head.status, head.dated(self.gateway.clock.now()).headers, data, upstream.name)
        try:
            document = jsonio.decode(data, "The answer")
        except BadRequest as error:
            raise UpstreamBroken(f"{upstream.name} sent an answer that is not JSON.") from error
        if not isinstance(document, dict):
            raise UpstreamBroken(f"{upstream.name} sent an answer that is not an object.")
        usage = document.get("usage")
        self.usage = usage_of(usage) if isinstance(usage, dict) else None
        return document

    def _head(self, exchange: Exchange, name: str, first_byte_s: float) -> Head:
        clock = self.gateway.clock.monotonic
        until_s = min(clock() + first_byte_s, self._plan.deadline_s)
        while (head := exchange.receive_head(max(min(until_s - clock(), _STEP_S), 0.001))) is None:
            if clock() >= until_s:
                raise UpstreamTimeout(f"{name} did not answer in time ({first_byte_s:g} s for the first byte).")
        return head

    def _body(self, exchange: Exchange, name: str, silence_s: float) -> bytes:
        clock = self.gateway.clock.monotonic
        parts: list[bytes] = []
        size, last_s = 0, clock()
        while (data := exchange.receive(_STEP_S)) != b"":
            if data is None:
                if clock() - last_s >= silence_s or clock() >= self._plan.deadline_s:
                    raise UpstreamTimeout(f"{name} was silent for {silence_s:g} s.")
                continue
            last_s = clock()
            parts.append(data)
            size += len(data)
            if size > MAX_ANSWER_BYTES:
                raise UpstreamBroken(f"{name} sent an answer of more than {MAX_ANSWER_BYTES} bytes.")
        return b"".join(parts)

    def _record(self, outcome: str, error: GatewayError | None) -> None:
        """Write the record; the first call counts."""
        if self._is_recorded:
            return
        self._is_recorded = True
        now_s = self.gateway.clock.monotonic()
        record: dict[str, object] = {
            "request_id": self.request_id,
            "client": self.client,
            "endpoint": self.endpoint,
            "model": self.route.name,
            "deployment": self.deployment.name if self.deployment else None,
            "attempts": self.attempts,
            "stream": False,
            "outcome": outcome,
            "status": 499 if outcome == "cancelled" else error.status if error else 200,
            "duration_ms": round((now_s - self.received_s) * 1000, 1),
            "bytes_in": self.size_bytes,
        }
        cost_usd = cost_of(self.usage, self.deployment.model.price) if self.usage is not None and self.deployment is not None else 0.0
        if self.usage is not None:
            counts = {"prompt_tokens": self.usage.prompt_tokens, "completion_tokens": self.usage.completion_tokens}
            record |= {**counts, "cost_usd": cost_usd}
        if error is not None:
            record |= {"error": error.message, "code": error.code}
        if self._reservation is not None and outcome == "error":
            self._reservation.cancel()
        elif self._reservation is not None:
            self._reservation.settle(self.usage, cost_usd)
        self.gateway.metrics.observe(record)
        self.gateway.usage.add(record)
        self.gateway.traces.ended(record, parent=self.trace_parent)
        self.gateway.log.write("call", record, "error" if error is not None and error.status >= 500 else "info")
