"""One call from start to end.

    CallRun(gateway, call).whole()   -> the body of a whole answer
    CallRun(gateway, call).frames()  -> the frames of a streamed answer, heartbeats among them

For each deployment of the route: translate (inputs are never changed, so a failover can translate again), open the upstream,
classify what came back, translate it. The *commit point* is the first content of the answer: before it another attempt may be made,
after it the stream is carried on or ended with an error event. Whatever happens, the upstream is closed and one record goes to the log.

Both ways wait in short steps (`_wait_s`), and hand out a heartbeat whenever the client has heard nothing for too long; `whole` drops them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

from compat.call import Call
from compat.errors import GatewayError, NoUpstream, UpstreamBroken, UpstreamTimeout
from compat.gateway import Gateway
from compat.routing.router import Deployment
from compat.translate import TRANSLATORS
from compat.translate.base import StreamTranslator, TranslationContext, Translator, note_values
from compat.upstream.client import Secret, Upstream
from compat.upstream.http1 import Exchange
from compat.wire.check import check_messages
from compat.wire.openai import completion_frames
from compat.wire.sse import KEEP_ALIVE
from compat.wire.usage import Usage, cost_of

MAX_WHOLE_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 256 * 1024
_DRAIN_S = 0.05

T = TypeVar("T")
Steps = Generator[bytes, None, T]
"""Work that hands out heartbeats while it waits, and returns a `T`."""


@dataclass(slots=True)
class CallRun:
    """The progress of one call; the endpoint reads `deployment`, `attempts` and `notes` for its headers. One use only."""

    gateway: Gateway
    call: Call
    deployment: Deployment | None = None
    attempts: int = 0
    notes: tuple[str, ...] = ()
    _exchange: Exchange | None = None
    _usage: Usage | None = None
    _finish_reason: str | None = None
    _first_content_s: float | None = None
    _last_frame_s: float = 0.0
    _bytes_out: int = 0
    _is_complete: bool = False
    _is_settled: bool = False

    def whole(self) -> bytes:
        """The body of the answer. Errors: any `GatewayError`, `ClientGone`."""
        self._begin()
        try:
            for deployment in self._plan():
                try:
                    body = _result(self._attempt_whole(deployment))
                except GatewayError as error:
                    self._attempt_failed(deployment, error)
                else:
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
        try:
            for deployment in self._plan():
                try:
                    for frame in self._attempt_stream(deployment):
                        has_begun = True
                        self._last_frame_s = self.gateway.clock.monotonic()
                        self._bytes_out += len(frame)
                        yield frame
                except GatewayError as error:
                    self._attempt_failed(deployment, error)
                else:
                    self._settle("ok", None)
                    return
        except GatewayError as error:
            self._settle("error", error)
            if not has_begun:
                raise
            yield error.frame()
        finally:
            self._settle("ok" if self._is_complete else "cancelled", None)

    def headers(self) -> list[tuple[str, str]]:
        """What the client is told about the way its call took."""
        headers = [("x-compat-attempts", str(self.attempts))]
        if self.deployment is not None:
            headers.append(("x-compat-upstream", _header_text(self.deployment.name)))
        if self.notes:
            headers.append(("x-compat-notes", _header_text(note_values(self.notes))))
        return headers

    # One attempt.

    def _plan(self) -> Iterator[Deployment]:
        router = self.gateway.router
        order = router.order(router.resolve(self.call.model))
        return itertools.islice(itertools.cycle(order), self.gateway.settings.retry.attempts)

    def _attempt_failed(self, deployment: Deployment, error: GatewayError) -> None:
        """Let the next attempt be made, or raise `error` where none may be."""
        self._close_exchange()
        is_last = self.attempts >= self.gateway.settings.retry.attempts
        if self._first_content_s is not None or not error.retryable or is_last:
            raise error
        self.gateway.log.write(
            "attempt.failed",
            {"request_id": self.call.request_id, "deployment": deployment.name, "attempt": self.attempts, "error": error.message},
            "warning",
        )

    def _attempt_whole(self, deployment: Deployment) -> Steps[bytes]:
        exchange, translator, ctx, _ = yield from self._open(deployment)
        body = yield from self._read_all(exchange, deployment, MAX_WHOLE_BYTES)
        self._close_exchange()
        answer = translator.response(body, ctx)
        self._usage, self._finish_reason = answer.usage, answer.finish_reason
        self.notes += answer.notes
        self._bytes_out = len(answer.body)
        return answer.body

    def _attempt_stream(self, deployment: Deployment) -> Steps[None]:
        exchange, translator, ctx, content_type = yield from self._open(deployment)
        if content_type == "application/json":  # a whole answer to a streaming request becomes a stream
            body = yield from self._read_all(exchange, deployment, MAX_WHOLE_BYTES)
            answer = translator.response(body, ctx)
            self._usage, self._finish_reason = answer.usage, answer.finish_reason
            self._first_content_s = self.gateway.clock.monotonic()
            self._is_complete = True
            yield completion_frames(answer.body, wants_usage=self.call.wants_usage)
            return
        stream = translator.stream(ctx)
        held = yield from self._relay(exchange, stream, deployment)
        last = held + stream.finish()
        self._usage, self._finish_reason = stream.usage, stream.finish_reason
        self.notes += tuple(stream.notes)
        self._is_complete = True
        yield last
        self._drain(exchange)

    def _relay(self, exchange: Exchange, stream: StreamTranslator, deployment: Deployment) -> Steps[bytes]:
        """Hand out frames until the upstream's end; what came before the first content is held back, and returned if none came."""
        held = b""
        silence_s = deployment.upstream.timeouts.silence_s
        clock = self.gateway.clock.monotonic
        last_data_s = clock()
        while not stream.is_finished:
            data = exchange.receive(self._wait_s(last_data_s + silence_s))
            if data is None:
                if clock() - last_data_s >= silence_s:
                    raise UpstreamTimeout(f"{deployment.upstream.name} was silent for {silence_s:g} s.")
                yield from self._heartbeat()
                continue
            if data == b"":
                break
            last_data_s = clock()
            frames = stream.feed(data)
            if self._first_content_s is not None:
                if frames:
                    yield frames
            elif stream.is_committed:
                self._first_content_s = clock()
                yield held + frames
                held = b""
            else:
                held += frames
                yield from self._heartbeat()
            if stream.failure is not None:
                raise stream.failure
        return held

    def _open(self, deployment: Deployment) -> Steps[tuple[Exchange, Translator, TranslationContext, str]]:
        """Send the call to `deployment` and wait for a 200."""
        self.attempts += 1
        self.deployment = deployment
        kind = deployment.upstream.kind
        translator = TRANSLATORS.get((self.call.wire_api, kind.wire_api))
        if translator is None:
            raise NoUpstream(f"No translation to the wire API {kind.wire_api} of {deployment.upstream.name}.")
        if kind.is_lenient:
            check_messages(self.call.envelope, takes_images=deployment.model.images or not deployment.is_embedded)
        ctx = self._context(deployment)
        request = translator.request(self.call.envelope, ctx)
        self.notes = request.notes
        upstream = deployment.upstream
        deadline_s = self.gateway.clock.monotonic() + upstream.timeouts.first_byte_s
        if deployment.is_embedded:
            upstream = yield from self._await_engine(upstream, deadline_s)
        exchange = self._exchange = self.gateway.transport.open(upstream, "chat", request.body, request.headers)
        while (head := exchange.receive_head(self._wait_s(deadline_s))) is None:
            if self.gateway.clock.monotonic() >= deadline_s:
                raise UpstreamTimeout(f"{upstream.name} did not answer within {upstream.timeouts.first_byte_s:g} s.")
            yield from self._heartbeat()
        if head.status != 200:
            body = yield from self._read_all(exchange, deployment, MAX_ERROR_BYTES, keeps_part=True)
            raise translator.error(head.status, head.headers, body, ctx)
        content_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type in {"text/html", "application/xhtml+xml"}:
            raise UpstreamBroken(f"{upstream.name} answered with a web page: check its base_url.")
        return exchange, translator, ctx, content_type

    def _read_all(self, exchange: Exchange, deployment: Deployment, max_bytes: int, *, keeps_part: bool = False) -> Steps[bytes]:
        """The whole body. With `keeps_part` a longer or broken one is cut short, else it is an error."""
        parts: list[bytes] = []
        size = 0
        silence_s = deployment.upstream.timeouts.silence_s
        clock = self.gateway.clock.monotonic
        last_data_s = clock()
        while True:
            try:
                data = exchange.receive(self._wait_s(last_data_s + silence_s))
            except UpstreamBroken:
                if keeps_part:
                    break
                raise
            if data is None:
                if clock() - last_data_s >= silence_s:
                    raise UpstreamTimeout(f"{deployment.upstream.name} was silent for {silence_s:g} s.")
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
                raise UpstreamBroken(f"{deployment.upstream.name} sent an answer of more than {max_bytes} bytes.")
        return b"".join(parts)[:max_bytes]

    def _await_engine(self, upstream: Upstream, deadline_s: float) -> Steps[Upstream]:
        engine = self.gateway.engine
        if engine is None:
            raise NoUpstream("The embedded model is switched off.")
        while (endpoint := engine.endpoint(self._wait_s(deadline_s))) is None:
            if self.gateway.clock.monotonic() >= deadline_s:
                raise NoUpstream(f"The embedded model is not ready yet: {engine.status().detail}.", retry_after_s=10)
            yield from self._heartbeat()
        return Upstream(upstream.name, upstream.kind, f"{endpoint.base_url}/v1", (Secret(endpoint.api_key),), timeouts=upstream.timeouts)

    def _context(self, deployment: Deployment) -> TranslationContext:
        clock = self.gateway.clock
        kind = deployment.upstream.kind
        return TranslationContext(
            alias=self.call.model,
            target=deployment.target,
            model=deployment.model,
            completion_id=f"chatcmpl-{clock.new_id()}",
            created_s=int(clock.now()),
            is_stream=self.call.is_stream,
            wants_usage=self.call.wants_usage,
            sends_usage_option=kind.sends_usage_option,
            unwanted_fields=kind.unwanted_fields,
            upstream_name=deployment.upstream.name,
        )

    # Waiting and settling.

    def _begin(self) -> None:
        gauges = self.gateway.gauges
        gauges.in_flight += 1
        gauges.calls += 1
        self._last_frame_s = self.call.received_s

    def _wait_s(self, deadline_s: float) -> float:
        """How long a wait may last: until a heartbeat is due or the deadline, at least a moment."""
        now_s = self.gateway.clock.monotonic()
        return max(min(self._last_frame_s + self.gateway.settings.server.heartbeat_s, deadline_s) - now_s, 0.001)

    def _heartbeat(self) -> Iterator[bytes]:
        """A comment, if the client heard nothing for too long."""
        now_s = self.gateway.clock.monotonic()
        if now_s - self._last_frame_s >= self.gateway.settings.server.heartbeat_s:
            self._last_frame_s = now_s
            yield KEEP_ALIVE

    def _drain(self, exchange: Exchange) -> None:
        """Read the last bytes of the body's framing, which follow the answer's end, so that the connection can be used again."""
        with contextlib.suppress(GatewayError):
            exchange.receive(_DRAIN_S)

    def _close_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def _settle(self, outcome: str, error: GatewayError | None) -> None:
        """Close the upstream and write the record; the first call counts."""
        if self._is_settled:
            return
        self._is_settled = True
        self._close_exchange()
        gateway = self.gateway
        gateway.gauges.in_flight -= 1
        gateway.log.write("call", self._record(outcome, error), "error" if outcome == "error" and error and error.status >= 500 else "info")

    def _record(self, outcome: str, error: GatewayError | None) -> dict[str, object]:
        call, deployment, usage = self.call, self.deployment, self._usage
        now_s = self.gateway.clock.monotonic()
        record: dict[str, object] = {
            "request_id": call.request_id,
            "client": call.client,
            "model": call.model,
            "deployment": deployment.name if deployment else None,
            "attempts": self.attempts,
            "stream": call.is_stream,
            "outcome": outcome,
            "status": error.status if error else 499 if outcome == "cancelled" else 200,
            "duration_ms": round((now_s - call.received_s) * 1000, 1),
            "bytes_in": len(call.envelope.body),
            "bytes_out": self._bytes_out,
        }
        if self._first_content_s is not None:
            record["ttft_ms"] = round((self._first_content_s - call.received_s) * 1000, 1)
        if usage is not None and deployment is not None:
            record["prompt_tokens"] = usage.prompt_tokens
            record["completion_tokens"] = usage.completion_tokens
            record["cache_read_tokens"] = usage.cache_read_tokens
            record["cache_write_tokens"] = usage.cache_write_tokens
            record["cost_usd"] = cost_of(usage, deployment.model.price)
        if self._finish_reason:
            record["finish_reason"] = self._finish_reason
        if self.notes:
            record["notes"] = note_values(self.notes)
        if error is not None:
            record["error"] = error.message
            record["code"] = error.code
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
