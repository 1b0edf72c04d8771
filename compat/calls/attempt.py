"""One attempt: one call at one deployment, from the translated request to the last byte.

    attempt.whole()    -> a whole answer
    attempt.frames()   -> the frames of a streamed answer

Both are steps: generators that hand out frames, or a heartbeat whenever the client has got nothing for too long, and return a result.
What came of the attempt (usage, notes, thinking) is in its fields when it ends, however it ends. A refused optional parameter is left out
and remembered (docs/translation.md, rule 11), a paused answer is resumed (rule 17): both within one attempt, for the client sees one
answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from compat.calls.call import Call, context_of, memories, thinker_of
from compat.calls.engine import admitted_at, awaited_engine
from compat.calls.gateway import Gateway
from compat.calls.ledger import Account
from compat.calls.phases import ATTEMPT, AttemptPhase
from compat.calls.searches import run_searches
from compat.errors import GatewayError, NoUpstream, UpstreamBroken, UpstreamError, UpstreamTimeout
from compat.protocols import translator_for
from compat.protocols.base import Continuation, StreamTranslator, ThinkingRecord, TranslatedAnswer, TranslationContext, Translator
from compat.protocols.client_protocol import Identity
from compat.protocols.events import Found
from compat.protocols.refusals import PASSING, is_endpoint
from compat.protocols.search import answered
from compat.routing.pacing import Sent
from compat.routing.router import Deployment
from compat.streaming.heartbeat import Pulse, Steps
from compat.streaming.hold import Outflow
from compat.streaming.relay import Bounds, Outlet, Relay
from compat.upstream.client import Secret
from compat.upstream.http1 import Exchange, Head
from compat.wire.estimate import estimated_usage
from compat.wire.hops import hop_headers
from compat.wire.usage import Usage

MAX_WHOLE_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 256 * 1024
MAX_LEARNT = 4
MAX_PARTS = 8
"""Of an answer that pauses: after so many, what was said is the answer."""
_DRAIN_S = 0.05
_PAUSED = "kept pausing its answer without any content; another attempt would cost all of it again"
_ERROR_BODY_S = 5.0
"""How long the words of a refusal may take; its status is known by then."""
_END_S = 5.0
"""How long an upstream may be silent after the reason of an answer's end, before its end mark."""


@dataclass(slots=True)
class Attempt:
    """The progress of one attempt. One use only; `close` always follows.

    `key` is the credential to call with, `deadline_s` the clock's time at which the call must be over, `hold_bytes`
    how much of a tool call may be held back, `on_content` is called at the commit point. `is_rest`: another one began the answer.

    `upstream_calls` counts requests that were sent. `first_content_s` is the clock's time of the commit point. `segments` are the digests
    of the prompt (`TranslatedRequest.segments`).
    """

    gateway: Gateway
    call: Call
    deployment: Deployment
    pulse: Pulse
    key: Secret | None
    deadline_s: float
    hold_bytes: int
    on_content: Callable[[], None]
    is_rest: bool
    lane: Hashable
    account: Account
    upstream_calls: int = 0
    usage: Usage | None = None
    stop_reason: str | None = None
    notes: tuple[str, ...] = ()
    segments: tuple[tuple[str, bytes], ...] = ()
    first_content_s: float | None = None
    phase: AttemptPhase = "asking"
    translator: Translator = field(init=False)
    _learnt: tuple[str, ...] = ()
    _sent: Sent | None = None
    _exchange: Exchange | None = None
    _stream: StreamTranslator | None = None
    _count_prompt: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        self.translator = self._translator_without(self.gateway.refusals.of(self.deployment.name))

    def whole(self) -> Steps[bytes]:
        """The body of a whole answer. Errors: any `GatewayError`."""
        ctx = context_of(self.gateway, self.call, self.deployment, self.translator, self.key)
        if (kept := self._kept(ctx)) is not None:
            return kept
        answer = yield from self._answer(ctx)
        return answer.body

    def frames(self, outlet: Outlet | None, on_frames: Callable[[bytes], None]) -> Steps[None]:
        """The frames of a streamed answer. Errors: any `GatewayError`; after the commit point it is the answer's end.

        `outlet` is the client's end, where frames may go past the generators; `on_frames` gets those.
        """
        ctx = context_of(self.gateway, self.call, self.deployment, self.translator, self.key)
        if (kept := self._kept(ctx)) is not None:
            yield self.call.protocol.replay(kept, self.call.wants_usage)
            return
        exchange, ctx, head = yield from self._open(ctx)
        if _media_type(head) == "application/json":  # a whole answer to a streaming request becomes a stream
            answer = yield from self._answer(ctx, exchange)
            frames = self.call.protocol.replay(answer.body, self.call.wants_usage)
            self._complete()
            yield frames
            return
        outflow = Outflow(self.call.protocol, self.translator.stream(ctx), self.hold_bytes, self._show)
        stream = self._stream = outflow.stream
        exchange = yield from self._parts(exchange, ctx, outflow, partial(self._relay, outflow, outlet, on_frames))
        last = outflow.rest(is_whole=exchange.is_whole)
        self.usage, self.stop_reason = stream.usage, stream.stop_reason
        self._keep(stream.thinking)
        self.notes += tuple(stream.notes)
        self._complete()
        yield last
        self._drain(exchange)

    def _parts(
        self, exchange: Exchange, ctx: TranslationContext, outflow: Outflow, relay: Callable[[Exchange], Steps[None]]
    ) -> Steps[Exchange]:
        """The parts of a streamed answer, less its end: one, or more where it paused. The last one's exchange."""
        stream = outflow.stream
        for left in reversed(range(MAX_PARTS)):
            try:
                yield from relay(exchange)
            except UpstreamError as error:
                if stream.stop_reason is None:  # else all of the answer came, and only its end mark is missing
                    raise
                error.forget_frames()
            finally:
                self.usage = stream.usage
            if stream.continuation is None:
                break
            if left:
                if stream.continuation.queries:
                    yield stream.searched((yield from self._searched(stream.continuation, ctx)))
                ctx = replace(ctx, continuation=stream.continuation)
                stream.resume()
                self._drain(exchange)
                exchange, ctx, _head = yield from self._open(ctx)
            elif stream.is_committed:
                stream.settle()
            else:
                raise UpstreamError(f"{self.deployment.upstream.name} {_PAUSED}.", code="upstream_paused")
        return exchange

    def estimate_usage(self) -> None:
        """Take for the usage of an answer that was cut short what the upstream had reported by then, and an estimate of the rest."""
        if self.usage is None and self.upstream_calls and self._count_prompt is not None:
            stream = self._stream
            self.usage = stream.usage_so_far() if stream is not None else estimated_usage(self._count_prompt(), 0)

    def close(self) -> None:
        """Close the upstream; what it still does is ended. It may be called again."""
        if self._sent is not None:
            self._sent.lost()
        if self._exchange is not None:
            self._exchange.close()

    def _keep(self, record: ThinkingRecord | None) -> None:
        """Keep thinking for later turns, before the client can ask for one; not that of half a turn."""
        if record is not None and not self.is_rest:
            self.gateway.vault.keep(self.call.client, thinker_of(self.deployment, self.translator, self.key), record)

    def _kept(self, ctx: TranslationContext) -> bytes | None:
        """The body of an answer for which no upstream is asked: it was given before to the same request, or nobody has what it takes."""
        foregone = self.translator.foregone
        if foregone is not None and (answer := foregone(self.call.envelope, ctx)) is not None:
            self.usage, self.stop_reason, self.notes = answer.usage, answer.stop_reason, answer.notes
            self._complete()
            return answer.body
        if self.is_rest or not self.account.asks_cache:
            return None
        request = self.gateway.offload.request(self.translator, self.call.envelope, ctx)[0]
        found = self.account.kept(self.deployment, request)
        if found is None:
            return None
        self.usage, self.stop_reason = Usage(), self.call.protocol.end_reason
        self._complete()
        identity = Identity(ctx.completion_id, ctx.created_s, ctx.alias, echoed=request.memory.echoed)
        return self.call.protocol.again(found.said, identity)

    # Answers.

    def _answer(self, ctx: TranslationContext, exchange: Exchange | None = None) -> Steps[TranslatedAnswer]:
        for left in reversed(range(MAX_PARTS)):
            if exchange is None:
                exchange, ctx, _head = yield from self._open(ctx)
            body = yield from self._read_all(exchange, MAX_WHOLE_BYTES)
            ctx = ctx if left else replace(ctx, resumes=False)
            answer = self.gateway.offload.run(body, partial(self.translator.response, body, ctx))
            self.usage = answer.usage
            if answer.continuation is None:
                self.stop_reason = answer.stop_reason
                self._keep(answer.thinking)
                self.notes += answer.notes
                return answer
            pause = answer.continuation
            if pause.queries:
                pause = answered(pause, (yield from self._searched(pause, ctx)))
            ctx = replace(ctx, continuation=pause)
            self.close()
            exchange = None
        raise UpstreamError(f"{self.deployment.upstream.name} {_PAUSED}.", code="upstream_paused")

    def _searched(self, pause: Continuation, ctx: TranslationContext) -> Steps[tuple[Found, ...]]:
        """What the searches gave that the answer waits for."""
        assert ctx.memory.search is not None
        return run_searches(self.gateway, pause.queries, ctx.memory.search, self.pulse, self.call.request_id)

    def _relay(self, outflow: Outflow, outlet: Outlet | None, on_frames: Callable[[bytes], None], exchange: Exchange) -> Steps[None]:
        """Hand out the frames that are due until the upstream's end; while the stream flows, they go to the outlet past all generators."""
        silence_s = self.deployment.upstream.timeouts.silence_s
        clock, stream = self.gateway.clock.monotonic, outflow.stream
        last_data_s = clock()
        is_shown = has_ended = False
        while not (stream.is_finished or has_ended):
            if is_shown and outlet is not None and outflow.is_flowing and exchange.watchable is not None:
                bounds = Bounds(self.pulse.heartbeat_s, silence_s, self.pulse.heartbeat, self.deadline_s)
                relay = Relay(exchange, outlet, outflow, on_frames, clock, bounds, self.gateway.gathering)
                has_ended, last_data_s, frames = relay.run(), relay.last_data_s, relay.left
                self.pulse.last_frame_s = relay.last_sent_s
                if outflow.is_flowing and not has_ended:
                    self._check_silence(last_data_s, silence_s)
            else:
                data = exchange.receive(self._wait_s(min(last_data_s + silence_s, self.deadline_s)))
                if data is None:
                    self._check_silence(last_data_s, silence_s)
                    yield from self._heartbeat()
                    continue
                has_ended = data == b""
                last_data_s = clock()
                frames = outflow.take(data)
            if frames:
                yield frames
                is_shown = True  # with the answer's head before them
            else:
                yield from self._heartbeat()
            if stream.failure is not None:
                raise stream.failure
            if stream.stop_reason is not None and self.call.answers_wanted == 1:
                silence_s = min(silence_s, _END_S)

    def _show(self) -> None:
        """Note the commit point, just before the first frames are handed out."""
        if self.phase == "asking":
            self._go("shown")
            self.first_content_s = self.gateway.clock.monotonic()
            self.on_content()

    def _complete(self) -> None:
        """All of the answer came: nothing that happens to its last frames makes it another."""
        self._show()
        self._go("complete")

    def _go(self, phase: AttemptPhase) -> None:
        assert phase in ATTEMPT[self.phase], f"an attempt does not go from {self.phase} to {phase}"
        self.phase = phase

    # Requests.

    def _open(self, ctx: TranslationContext) -> Steps[tuple[Exchange, TranslationContext, Head]]:
        """Send the call and wait for a 200; a refused parameter that the call can do without is left out."""
        deployment = self.deployment
        if deployment.upstream.kind.is_lenient and (check := self.call.protocol.check) is not None:
            takes_images = deployment.model.images or not deployment.is_embedded
            envelope = self.call.envelope
            self.gateway.offload.run(envelope.body, partial(check, envelope, takes_images=takes_images))
        for _ in range(MAX_LEARNT):
            request, ctx = self.gateway.offload.request(self.translator, self.call.envelope, ctx)
            self.notes = (*request.notes, *self._learnt)
            self.segments = request.segments
            ctx = ctx if request.memory is ctx.memory else replace(ctx, memory=request.memory)
            self._count_prompt = ctx.count_prompt
            exchange, head = yield from self._send(
                request.body, {**request.headers, **hop_headers(self.call.hops)} if self.call.hops else request.headers
            )
            if head.status == 200:
                if _media_type(head) in {"text/html", "application/xhtml+xml"}:
                    raise UpstreamBroken(f"{deployment.upstream.name} answered with a web page: check its base_url.")
                return exchange, ctx, head
            body = yield from self._read_all(exchange, MAX_ERROR_BYTES, keeps_part=True)
            error = self.translator.error(head.status, head.headers, body, ctx)
            name = self.translator.refused(error)
            if name is None or name in ctx.refused_parameters or self._is_only_way(name, ctx.refused_parameters):
                break
            ctx = self._learn(name, ctx)
        raise error

    def _send(self, body: bytes, headers: Mapping[str, str]) -> Steps[tuple[Exchange, Head]]:
        upstream, clock = self.deployment.upstream, self.gateway.clock.monotonic
        deadline_s = min(clock() + upstream.timeouts.first_byte_s, self.deadline_s)
        if self.deployment.is_embedded:
            endpoint = yield from awaited_engine(self.gateway, deadline_s, self._wait_s, self._heartbeat)
            self.deployment = replace(self.deployment, target=endpoint.model)  # the one that answers just now
            upstream = admitted_at(self.gateway, upstream, endpoint, self.call, self._count_prompt)
        self.close()
        sent = self._sent = self.gateway.policies.pacing.sent(self.lane)
        exchange = self._exchange = self.gateway.transport.open(upstream, self.translator.at(self.call.query), body, headers, self.key)
        self.upstream_calls += 1
        while (head := exchange.receive_head(self._wait_s(deadline_s))) is None:
            if clock() >= deadline_s:
                is_over, bounds = deadline_s == self.deadline_s, upstream.timeouts
                what, bound_s = ("call", bounds.total_s) if is_over else ("first byte", bounds.first_byte_s)
                raise UpstreamTimeout(f"{upstream.name} did not answer in time ({bound_s:g} s for the {what}).")
            yield from self._heartbeat()
        head = head.dated(self.gateway.clock.now())
        sent.heard(head.status, head.headers)
        return exchange, head

    def _is_only_way(self, name: str, refused: frozenset[str]) -> bool:
        """Whether an API was refused, and there is no other."""
        return is_endpoint(name) and self._translator_without(refused | {name}) is self.translator

    def _learn(self, name: str, ctx: TranslationContext) -> TranslationContext:
        self._learnt += (f"learnt={name}",)
        if name not in PASSING:
            self.gateway.refusals.learn(self.deployment.name, name)
            self.gateway.log.event("parameter.refused", {"deployment": self.deployment.name, "parameter": name})
        self.translator = self._translator_without(refused := ctx.refused_parameters | {name})
        kept = memories(self.gateway.vault, self.call, self.deployment, self.translator, self.key)
        return replace(ctx, refused_parameters=refused, **kept)

    def _translator_without(self, refused: frozenset[str]) -> Translator:
        """How the call gets to the deployment, which refuses these. `NoUpstream` where there is no way."""
        deployment, call = self.deployment, self.call
        found = translator_for(call.protocol.api, deployment.apis_left(refused), call.envelope, deployment.upstream.kind.paths, refused)
        if found is None:
            raise NoUpstream(f"No translation to the wire API {', '.join(deployment.apis)} of {deployment.upstream.name}.")
        return found

    # Reading and waiting.

    def _read_all(self, exchange: Exchange, max_bytes: int, *, keeps_part: bool = False) -> Steps[bytes]:
        """The whole body. With `keeps_part` a longer, slower or broken one is cut short, else it is an error."""
        parts: list[bytes] = []
        size = 0
        upstream = self.deployment.upstream
        silence_s = upstream.timeouts.silence_s
        clock = self.gateway.clock.monotonic
        begun_s = last_data_s = clock()
        words_until_s = begun_s + min(silence_s, _ERROR_BODY_S)
        while not (keeps_part and clock() >= words_until_s):
            until_s = words_until_s if keeps_part else last_data_s + silence_s
            try:
                data = exchange.receive(self._wait_s(min(until_s, self.deadline_s)))
            except UpstreamBroken:
                if keeps_part:
                    break
                raise
            if data is None:
                if not keeps_part:
                    self._check_silence(last_data_s, silence_s)
                yield from self._heartbeat()
                continue
            if data == b"":
                break
            last_data_s = clock()
            parts.append(data)
            size += len(data)
            if size > max_bytes:
                if keeps_part:
                    break
                raise UpstreamBroken(f"{upstream.name} sent an answer of more than {max_bytes} bytes.")
        return b"".join(parts)[:max_bytes]

    def _check_silence(self, last_data_s: float, silence_s: float) -> None:
        """`UpstreamTimeout` when the upstream was silent for too long, or the call's time is over."""
        upstream, now_s = self.deployment.upstream, self.gateway.clock.monotonic()
        if now_s - last_data_s >= silence_s:
            raise UpstreamTimeout(f"{upstream.name} was silent for {silence_s:g} s.")
        if now_s >= self.deadline_s:
            raise UpstreamTimeout(f"{upstream.name} did not end its answer within the call's {upstream.timeouts.total_s:g} s.")

    def _wait_s(self, deadline_s: float) -> float:
        return self.pulse.left_s(self.gateway.clock.monotonic(), deadline_s)

    def _heartbeat(self) -> Iterator[bytes]:
        return self.pulse.beat(self.gateway.clock.monotonic())

    def _drain(self, exchange: Exchange) -> None:
        """Read the last bytes of the body's framing, which follow the answer's end, so that the connection can be used again."""
        with contextlib.suppress(GatewayError):
            exchange.receive(_DRAIN_S)


def _media_type(head: Head) -> str:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()
