"""One call from start to end.

    CallRun(gateway, call).whole()   -> the body of a whole answer
    CallRun(gateway, call).frames()  -> the frames of a streamed answer, heartbeats among them

A plan (`compat/routing/plan.py`) says where the call goes and what follows a failure; each place gets an attempt (`attempt.py`):
translation may run again, for inputs are never changed. The *commit point* is the first content of the answer: before it another attempt
may be made, after it the stream is carried on (`resume.py`, `splice.py`) or ended with an error event. Whatever happens, the upstream is
closed, the circuit and the gate are notified, and one record goes to the log. Steps hand out a heartbeat whenever the client has got
nothing for too long; `whole` drops them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial

import gevent

from compat.calls.attempt import Attempt
from compat.calls.call import Call
from compat.calls.gateway import Gateway
from compat.calls.ledger import Account
from compat.calls.phases import CALL, CallPhase
from compat.calls.record import Outcome, Result, record_of
from compat.calls.resume import Part, ShownSoFar, can_rescue, last_frame, rest_of, takes_prefill
from compat.calls.splice import Splice
from compat.errors import ClientGone, GatewayError, InternalError, NoUpstream, UpstreamRateLimit
from compat.protocols.base import note_values
from compat.protocols.notes import header_text
from compat.routing.admission import Ticket, outcome_of
from compat.routing.affinity import session_of
from compat.routing.circuit import CIRCUIT_OPEN
from compat.routing.plan import CallPlan, Place
from compat.routing.router import Route
from compat.streaming.heartbeat import Pulse, Steps, T, result_of
from compat.streaming.relay import Outlet
from compat.wire.usage import Usage, cost_of


@dataclass(slots=True)
class CallRun:
    """The progress of one call; the endpoint reads `headers` when it knows the first bytes of the answer. One use only.

    `outlet` is the client's end of a stream, where its frames may go past `frames()`, `route` the way to go, where it is not the model's by
    its name. Mutable: everything but the first four fields. `phase` goes as `compat/calls/phases.py` has it; `_held` is what the present
    place holds (a permit of the circuit, a ticket of the gate, an attempt with its exchange), and is released with it, however it ends.
    `_shown` is what the client got, where the answer may be carried on (`_may_rescue`) or a failure is a part of it, `_part` what it had
    when the present attempt began.
    """

    gateway: Gateway
    call: Call
    outlet: Outlet | None = None
    route: Route | None = None
    attempt: Attempt | None = None
    bytes_out: int = 0
    first_content_s: float | None = None
    queued_s: float = 0.0
    phase: CallPhase = "new"
    account: Account = field(init=False)
    _plan: CallPlan | None = None
    _pulse: Pulse = field(init=False)
    _place: Place | None = None
    _ticket: Ticket | None = None
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _part: Part | None = None
    _shown: ShownSoFar | None = None
    _may_rescue: bool = False
    _hold_bytes: int = 0

    def __post_init__(self) -> None:
        self.account = Account(self.gateway, self.call)
        self._pulse = Pulse(self.call.received_s, self.gateway.settings.server.heartbeat_s, self.call.protocol.heartbeat)
        settings, call = self.gateway.settings, self.call
        row = settings.models.get(call.model)
        is_wanted = row.rescue if row is not None and row.rescue is not None else settings.rescue.enabled
        if is_wanted and call.is_stream and call.protocol.rescue is not None:
            self._hold_bytes = settings.rescue.hold_tool_calls_bytes
            self._may_rescue = settings.retry.attempts > 1
        if self._may_rescue or (call.is_stream and call.protocol.error_end is not None):
            self._shown = ShownSoFar(call.protocol)

    @property
    def attempts(self) -> int:
        """How many attempts were made."""
        return self._plan.attempts if self._plan is not None else 0

    @property
    def used(self) -> tuple[Usage | None, float]:
        """Tokens and dollars of the whole answer: the last attempt's, and those of the parts whose upstream died."""
        attempt, part = self.attempt, self._part
        usage = attempt.usage if attempt is not None else None
        cost_usd = cost_of(usage, attempt.deployment.model.price) if usage is not None and attempt is not None else 0.0
        return (usage, cost_usd) if part is None else part.spent.with_last(usage, cost_usd)

    def whole(self) -> bytes:
        """The body of the answer. Errors: any `GatewayError`, `ClientGone`."""
        self._begin()
        try:
            body = result_of(self._attempts(Attempt.whole))
        except GatewayError as error:
            self._settle("error", error)
            raise
        else:
            self.bytes_out = len(body)
            self.account.whole(body)
            self._settle("ok", None)
            return body
        finally:
            self._settle_early()

    def frames(self) -> Generator[bytes, None, None]:
        """The frames of the answer. A `GatewayError` leaves only before the first frame; a later one becomes the last frame."""
        self._begin()
        clock = self.gateway.clock.monotonic
        has_begun = False
        try:
            for frame in self._attempts(self._frames_of):
                has_begun = True
                self._pulse.last_frame_s = clock()
                self._note_frames(frame)
                yield frame
            self._settle("ok", None)
        except GatewayError as error:
            self._settle("error", error)
            if not has_begun:
                raise
            yield self.error_frame(error)
        finally:
            self._settle_early()

    def _frames_of(self, attempt: Attempt) -> Steps[None]:
        """Its frames. Those of a continuation are spliced, so that none may go past `frames()`."""
        return attempt.frames(self.outlet if self._part is None else None, self._note_frames)

    def _note_frames(self, frames: bytes) -> None:
        """Note what goes to the client."""
        self.bytes_out += len(frames)
        if self._shown is not None:
            self._shown.add(frames)
        self.account.feed(frames, self.bytes_out)

    def headers(self) -> list[tuple[str, str]]:
        """The headers that say how the call was made."""
        headers = [("x-compat-attempts", str(self.attempts))]
        if self.attempt is not None:
            headers.append(("x-compat-upstream", header_text(self.attempt.deployment.name)))
            if self.attempt.notes:
                headers.append(("x-compat-notes", header_text(note_values(self.attempt.notes))))
        return headers + self.account.headers()

    @property
    def request_id(self) -> str:
        """The call's id."""
        return self.call.request_id

    def error_frame(self, error: GatewayError) -> bytes:
        """The frame that ends the answer with an error."""
        error.request_id = self.call.request_id
        has_begun = self._part is not None or (self.attempt is not None and self.attempt.phase != "asking")
        return last_frame(self.call, error, self._shown, None if has_begun else self.gateway.clock)

    def note_shared(self, request_id: str) -> None:
        """The record of a call that was never begun, since it shares the answer of another one."""
        fields = {"request_id": self.call.request_id, "client": self.call.client, "shared_with": request_id}
        self.gateway.log.write("call.shared", fields, "info")

    # Attempts.

    def _attempts(self, run: Callable[[Attempt], Steps[T]]) -> Steps[T]:
        """Attempts, one after the other, until one gives an answer. Errors: that of the last one, `ModelNotFound`, `NoUpstream`."""
        self._go("placing")
        plan = self._plan = self._make_plan()
        while True:
            place = yield from self._next_place(plan)
            attempt = self.attempt = self._attempt_at(plan, place)
            try:
                yield from self._enter(plan, place)
                steps = run(attempt)
                result = yield from (steps if self._part is None else self._spliced(steps, attempt, self._part))
            except GatewayError as error:
                attempt.deployment.upstream.explain(error)
                error.forget_frames()
                self._report(error)
                if attempt.phase == "asking":
                    goes_on = yield from self._after_failure(plan, place, attempt, error)
                else:
                    goes_on = self._carries_on(plan, place, attempt, error)
                if not goes_on:
                    raise
                self._go("placing")
            else:
                self._report(None)
                return result

    def _next_place(self, plan: CallPlan) -> Steps[Place]:
        """Where to go. A new call fails at once when every circuit is open; one that is under way waits for a probe, within bounds."""
        self._held.close()
        while True:
            try:
                place = plan.next()
            except NoUpstream:
                wait_s = plan.patience(self.gateway.clock.monotonic()) if self.attempt is not None else None
                if wait_s is None:
                    raise
                yield from self._pause(wait_s)
            else:
                self._go("trying")
                self._place = place
                self._held.callback(plan.left, place)
                return place

    def _attempt_at(self, plan: CallPlan, place: Place) -> Attempt:
        deployment = place.candidate.deployment.priced(self.gateway.clock.now())
        call = self.call if self._part is None else rest_of(self.call, self._part.shown, deployment)
        committed = place.permit.committed
        attempt = Attempt(
            self.gateway,
            call,
            deployment,
            self._pulse,
            place.candidate.key,
            plan.deadline_s,
            self._hold_bytes,
            partial(self.account.content_began, committed) if self.gateway.feed.is_watched else committed,
            is_rest=call is not self.call,
            lane=place.lane,
            account=self.account,
        )
        self._held.callback(attempt.close)
        if self.gateway.feed.is_watched:
            self.account.live("call.attempt", deployment=deployment.name, attempt=self.attempts)
        return attempt

    def _enter(self, plan: CallPlan, place: Place) -> Steps[None]:
        """Wait until the upstream has room for the call, by its own word and here. Errors: `NoUpstream`, `UpstreamRateLimit`."""
        call, name = self.call, place.candidate.deployment.upstream.name
        began_s = self.gateway.clock.monotonic()
        try:
            if place.wait_s:
                if began_s + place.wait_s >= plan.deadline_s:
                    raise UpstreamRateLimit(f"{name} has no room for this call within its time.", retry_after_s=place.wait_s)
                yield from self._pause(place.wait_s)
            gate = self.gateway.policies.gates.of(name)
            ticket = self._ticket = gate.enter(call.client, len(call.envelope.body), call.is_stream, plan.deadline_s)
            self._held.callback(ticket.release)
            while not ticket.wait(self._pulse.left_s(self.gateway.clock.monotonic())):
                yield from self._pulse.beat(self.gateway.clock.monotonic())
        finally:
            self.queued_s += self.gateway.clock.monotonic() - began_s
        if place.permit.is_stale:
            raise NoUpstream(f"{name} failed while the call waited for it.", code=CIRCUIT_OPEN, retry_after_s=2)

    def _make_plan(self) -> CallPlan:
        gateway, call = self.gateway, self.call
        route = self.route or gateway.router.resolve(call.model)
        session = call.request_id
        if route.has_choice and gateway.settings.affinity.enabled:
            session = session_of(call.client, call.session_id, partial(call.protocol.opening, call.envelope))
        self.account.admit(route)
        deadline_s = call.received_s + max(deployment.upstream.timeouts.total_s for deployment in route.deployments)
        return CallPlan(gateway.policies, route, session, deadline_s)

    def _report(self, error: GatewayError | None) -> None:
        """Close the upstream, and report the outcome to gate and circuit. `None`: it gave the whole answer."""
        self._go("answered" if error is None else "failed")
        attempt, ticket, plan, place = self.attempt, self._ticket, self._plan, self._place
        assert attempt is not None
        assert plan is not None
        assert place is not None
        attempt.close()
        self.first_content_s = self.first_content_s or attempt.first_content_s
        if ticket is not None and attempt.upstream_calls:  # an answer that was kept says nothing about the upstream
            began_s = attempt.first_content_s if self.call.is_stream else None
            ticket.release(outcome_of(error), began_s - ticket.admitted_s if began_s is not None else None)
        if error is None and attempt.upstream_calls:
            plan.succeeded(place)
            self._held.pop_all()  # nothing is held any more

    def _after_failure(self, plan: CallPlan, place: Place, attempt: Attempt, error: GatewayError) -> Steps[bool]:
        """Whether another attempt may be made, after the wait that it takes."""
        decision = plan.failed(place, error, self.gateway.clock.monotonic())
        if decision.action == "stop":
            return False
        self.account.failed("attempt.failed", attempt.deployment, self.attempts, error, decision.reason, decision.wait_s)
        yield from self._pause(decision.wait_s)
        return True

    def _pause(self, wait_s: float) -> Steps[None]:
        clock = self.gateway.clock.monotonic
        until_s = clock() + wait_s
        while (left_s := until_s - clock()) > 0:
            gevent.sleep(min(left_s, self._pulse.left_s(clock())))
            yield from self._pulse.beat(clock())

    def _carries_on(self, plan: CallPlan, place: Place, attempt: Attempt, error: GatewayError) -> bool:
        """Whether the next attempt may carry the answer on, for which all is made ready: not where that can't be done honestly."""
        part = self._part or Part()
        has_time = self.gateway.clock.monotonic() < plan.deadline_s
        is_wanted = self._may_rescue and has_time and error.retryable and len(part.died) < self.gateway.settings.rescue.times
        shown = self._shown.read() if is_wanted and self._shown is not None else None
        if has_time:
            plan.charge(place, error)
        if shown is None or not can_rescue(self.call, shown) or not plan.may_rescue(place, self.gateway.clock.monotonic()):
            return False
        then = f"carried on after {len(shown.text)} characters"
        self.account.failed("answer.carried_on", attempt.deployment, self.attempts, error, then)
        self._part = part.grown(shown, attempt.usage, attempt.deployment)
        return True

    def _spliced(self, steps: Steps[T], attempt: Attempt, part: Part) -> Steps[T]:
        """The steps of an attempt, their frames made the continuation of what was shown; a heartbeat where nothing is left of them."""

        def was_prefilled() -> bool:
            is_refused = any(note.startswith("prefill=") for note in attempt.notes)
            return takes_prefill(self.call, attempt.deployment) and not is_refused

        names, call, now = [one.name for one in (*part.died, attempt.deployment)], self.call, self.gateway.clock.now
        splice = Splice(call.protocol, call.model, part.shown, part.spent, names, was_prefilled, now, wants_usage=call.wants_usage)
        while True:
            try:
                frames = splice.feed(next(steps))
            except StopIteration as end:
                value: T = end.value
                return value
            if frames:
                yield frames
            else:
                yield from self._pulse.beat(self.gateway.clock.monotonic())

    # Beginning and end.

    def _go(self, phase: CallPhase) -> None:
        assert phase in CALL[self.phase], f"a call does not go from {self.phase} to {phase}"
        self.phase = phase

    def _begin(self) -> None:
        self.gateway.gauges.enter()
        if self.gateway.feed.is_watched:
            self.account.live("call.started", api=self.call.protocol.api, stream=self.call.is_stream)
        self.gateway.log.request(self.call.request_id, self.call.client, self.call.envelope.body)

    def _settle_early(self) -> None:
        """The end of a call that did not get to its own: its client left, or the last of those who shared it; or something failed."""
        if self.phase == "over":
            return
        failure = sys.exception()
        if self.attempt is not None and self.attempt.phase == "complete":
            self._settle("ok", None)
        elif failure is None or isinstance(failure, ClientGone | GeneratorExit | gevent.GreenletExit):
            self._settle("cancelled", None)
        else:
            self._settle("error", InternalError(type(failure).__name__))

    def _settle(self, result: Result, error: GatewayError | None) -> None:
        """Release everything, and write the record."""
        gateway, attempt = self.gateway, self.attempt
        if attempt is not None:
            if attempt.phase == "complete" and self.phase == "trying":
                self._report(None)
            self.first_content_s = self.first_content_s or attempt.first_content_s
            if attempt.phase == "shown" or (attempt.phase == "asking" and self.phase == "trying"):
                attempt.estimate_usage()
        self._go("over")
        gateway.gauges.leave()
        self._held.close()
        record = record_of(outcome := self._outcome(result, error))
        self.account.close(record, outcome)
        gateway.log.write("call", record, "error" if error is not None and error.status >= 500 else "info")

    def _outcome(self, result: Result, error: GatewayError | None) -> Outcome:
        attempt, (usage, cost_usd) = self.attempt, self.used
        priced = self._part.spent.priced if self._part is not None else ()
        if attempt is not None and attempt.usage is not None:
            priced += ((attempt.usage, attempt.deployment.model.price),)
        lost = self.account.cache_lost(attempt.deployment, attempt.segments, usage) if attempt is not None else None
        return Outcome(
            call=self.call,
            result=result,
            error=error,
            ended_s=self.gateway.clock.monotonic(),
            attempts=self.attempts,
            bytes_out=self.bytes_out,
            first_content_s=self.first_content_s,
            deployment=attempt.deployment.name if attempt is not None else None,
            died=tuple(deployment.name for deployment in self._part.died) if self._part is not None else (),
            usage=usage,
            cost_usd=cost_usd,
            stop_reason=attempt.stop_reason if attempt is not None else None,
            notes=attempt.notes if attempt is not None else (),
            cache=self.account.verdict,
            cache_lost=lost,
            upstream_api=attempt.translator.endpoint if attempt is not None else "",
            queued_s=self.queued_s,
            priced=priced,
        )
