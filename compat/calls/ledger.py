"""What a call may use, what it used, and where that is recorded: limits and budgets, the answer cache, metrics, the usage store, traces.

account = Account(gateway, call)
account.admit(route)                   # counted as begun; TooManyRequests, BudgetSpent, BadRequest
account.kept(deployment, request)      # an answer that was given before
account.whole(body), account.feed(frames)
account.failed(name, ...)               # an attempt is over before the call is
account.close(record, outcome)         # the end: what was reserved becomes what was used
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from compat.accounting.limits import Reservation, estimate_of
from compat.calls.call import Call
from compat.calls.gateway import Gateway
from compat.calls.progress import Progress
from compat.calls.record import Outcome, facts_of
from compat.calls.tool_frames import ToolFrames
from compat.errors import GatewayError
from compat.protocols.base import TranslatedRequest
from compat.reuse.answer_cache import Decision, Recording
from compat.reuse.whole_answer import Kept
from compat.routing.router import Deployment, Route
from compat.telemetry.feed import Feed
from compat.telemetry.traces import Moment
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage


@dataclass(slots=True)
class Account:
    """One call's account. Mutable: all but the first two fields. `is_hit`: the answer came from the cache, and costs nothing."""

    gateway: Gateway
    call: Call
    is_hit: bool = False
    _decision: Decision | None = None
    _reservation: Reservation | None = None
    _recording: Recording | None = None
    _has_asked: bool = False
    _has_begun: bool = False
    _moments: list[Moment] = field(default_factory=list)
    _tools: ToolFrames | None = None
    _progress: Progress | None = None
    _call_key: bytes = field(init=False)
    _feed: Feed = field(init=False)

    def __post_init__(self) -> None:
        self._call_key, self._feed = self.call.protocol.call_key, self.gateway.feed

    @property
    def verdict(self) -> str:
        """What the cache did: the value of `x-cache`; empty where nobody asked it."""
        return self._decision.verdict if self._decision is not None else ""

    @property
    def asks_cache(self) -> bool:
        """Whether the translated request is of interest to the cache."""
        return self._decision is not None and (self._decision.looks or self._decision.keeps)

    def admit(self, route: Route) -> None:
        """Take the call's share of its limits. Errors: `ModelForbidden`, `TooManyRequests`, `BudgetSpent`, `BadRequest`."""
        if self._reservation is not None:
            return
        gateway, call = self.gateway, self.call
        self._begin()
        gateway.keys.check_model(call.client, route.name)
        if call.cache_wish or gateway.settings.cache.enabled:
            decide = partial(gateway.answers.decide, call.protocol, call.envelope, call.cache_wish)
            self._decision = gateway.offload.run(call.envelope.body, decide)
        estimate = estimate_of(len(call.envelope.body), call.most_output(route.model.max_output), route.model.price.at(gateway.clock.now()))
        self._has_asked = True  # a refusal has the headers with it
        self._reservation = gateway.limits.admit(call.client, route.name, estimate)

    def kept(self, deployment: Deployment, request: TranslatedRequest) -> Kept | None:
        """The answer to the same request, if there is one; if not, this one's may be kept. Only where `asks_cache`."""
        assert self._decision is not None
        answers, protocol = self.gateway.answers, self.call.protocol
        key = self.gateway.offload.run(request.body, partial(answers.key, self.call.client, deployment, request, protocol))
        found = answers.lookup(self._decision, key)
        self.is_hit = found is not None
        self._recording = None if self.is_hit else answers.recording(self._decision, key, protocol)
        return found

    def whole(self, body: bytes) -> None:
        """The whole answer, as it goes to the client."""
        if self._call_key in body:
            self._tool_frames().whole(body)
        if self._recording is not None:
            self._recording.whole(body)

    def feed(self, frames: bytes, total_bytes: int = 0) -> None:
        """Frames of the answer, as they go to the client, which has `total_bytes` with them."""
        if self._feed.is_watched:
            self._show_progress(frames, total_bytes)
        if self._call_key in frames:
            self._tool_frames().feed(frames)
        if self._recording is not None:
            self._recording.feed(frames)

    def cache_lost(self, deployment: Deployment, segments: Sequence[tuple[str, bytes]], usage: Usage | None) -> str | None:
        """The part of the prompt from which on the upstream's cache did not hold, where that can be told."""
        if usage is None or usage.is_estimate or not segments:
            return None
        return self.gateway.cache_watch.first_change(self.call.client, self.call.session_id, deployment.name, segments, usage)

    def failed(self, name: str, deployment: Deployment, attempt: int, error: GatewayError, then: str, wait_s: float = 0.0) -> None:
        """An attempt, the call's so many-th, is over before the call is: one that failed, or an answer that is carried on. `then` is what
        follows, after `wait_s`."""
        call, wait_ms = self.call, round(wait_s * 1000, 1)
        fields = {"request_id": call.request_id, "client": call.client, "model": call.model, "deployment": deployment.name}
        details = {"attempt": attempt, "error": error.message, "code": error.code, "then": then, "wait_ms": wait_ms}
        self.gateway.log.write(name, fields | details, "warning")
        self._moments.append(Moment(self.gateway.clock.now(), name, fields | details))

    def _tool_frames(self) -> ToolFrames:
        tools = self._tools = self._tools or ToolFrames(self.call.protocol)
        return tools

    def live(self, name: str, **more: object) -> None:
        """Let those know who watch calls as they happen; only while the feed `is_watched`."""
        call = self.call
        names = {"request_id": call.request_id, "client": call.client, "model": call.model, "session": call.session_id}
        self._feed.add(name, names | more, "debug")

    def content_began(self, then: Callable[[], None]) -> None:
        """The first content of an attempt is about to be shown."""
        then()
        self.live("call.first_token", ttft_ms=self._since_ms())

    def _show_progress(self, frames: bytes, total_bytes: int) -> None:
        progress = self._progress = self._progress or Progress(self.call.protocol)
        if progress.is_due(self.gateway.clock.monotonic()):
            tokens = progress.tokens(frames, total_bytes)
            self.live("call.progress", tokens_so_far=tokens, bytes_out=total_bytes, duration_ms=self._since_ms())

    def _since_ms(self) -> float:
        return round((self.gateway.clock.monotonic() - self.call.received_s) * 1000, 1)

    def headers(self) -> list[tuple[str, str]]:
        """What is left of the limits, also where a call did not get as far as them, and what the cache did."""
        if self._reservation is not None:
            headers = self._reservation.headers()
        else:
            headers = [] if self._has_asked else self.gateway.limits.headers(self.call.client, self.call.model)
        if self.verdict:
            headers.append(("x-cache", self.verdict))
        return headers

    def close(self, record: Mapping[str, object], outcome: Outcome) -> None:
        """The call is over. Without a `usage` no upstream has done anything for it."""
        result, usage = outcome.result, outcome.usage
        if self._recording is not None and result == "ok" and self.call.is_stream and "carried_on_from" not in record:
            self._recording.ended()
        if self._reservation is not None:
            if self.is_hit or usage is None:
                self._reservation.cancel()
            else:
                self._reservation.settle(usage, outcome.cost_usd)
        if usage is not None and not usage.is_estimate and result == "ok" and self.call.protocol.count is not None:
            self._teach(self.call.protocol.count, record, usage)
        self._begin()
        self.gateway.metrics.observe(record)
        self.gateway.usage.add(record, facts_of(outcome, self._moments, self._tools))
        if self.gateway.traces.state != "off":
            self.gateway.traces.ended(record, self._moments, self.call.trace_parent, self.call.session_id)

    def _teach(self, count: Callable[[Envelope], int], record: Mapping[str, object], usage: Usage) -> None:
        """Let the answer say how far an estimate of its prompt is from the truth."""
        deployment = record["deployment"]
        only_searches = self.call.protocol.only_searches
        is_search = only_searches is not None and only_searches(self.call.envelope)
        has_search = is_search or "emulated=" in str(record.get("notes", ""))
        is_one = record["attempts"] == 1 and "carried_on_from" not in record and not self.is_hit and not has_search
        if is_one and isinstance(deployment, str) and self.gateway.scales.is_due(deployment):
            envelope = self.call.envelope
            estimate = self.gateway.offload.run(envelope.body, partial(count, envelope))
            self.gateway.scales.learn(deployment, estimate, usage.prompt_tokens)

    def _begin(self) -> None:
        """Count the call as begun, once; one that shares another call's answer never is."""
        if not self._has_begun:
            self._has_begun = True
            self.gateway.metrics.began()
