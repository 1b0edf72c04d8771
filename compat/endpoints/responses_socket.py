"""`GET /v1/responses` with `upgrade: websocket`: the Responses API over one connection, a call for each message.

What a call is over HTTP it is here: by its client's key, with its limits, in the log, ended when its client leaves. Where WebSockets are
not served the answer is 426, which makes Codex go on by HTTP at once; a 404 or a 405 costs it five attempts and seconds.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

from websockets.frames import CloseCode

from compat.calls.call import Call, call_from
from compat.calls.gateway import Gateway
from compat.calls.kept import KeptAnswer, history, kept_for
from compat.calls.run import CallRun
from compat.endpoints.answers import Answer, error_body
from compat.endpoints.boundary import fault_of
from compat.endpoints.calls import HeadersOf, read_origin
from compat.endpoints.front import REQUEST_ID
from compat.endpoints.websocket import WebSocket
from compat.errors import BadRequest, ClientGone, GatewayError
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.responses.socket import AnswerMessages, Create, Memory, error_message, read_create, warmed_up
from compat.wire.envelope import Envelope, client_envelope

Frames = Generator[bytes, None, None] | KeptAnswer
PATH = "/v1/responses"
PING_S = 30.0
IDLE_S = 900.0
"""How long a connection is kept on which nothing is asked: a client that has more to ask opens another."""


class SocketDoor:
    """Where a client asks for a WebSocket: a request's environ in, its answer out.

    One that is idle gets a ping every `ping_s`, and is closed after `idle_s`.
    """

    def __init__(self, gateway: Gateway, protocol: ClientProtocol) -> None:
        self.protocol = protocol
        self.ping_s = PING_S
        self.idle_s = IDLE_S
        self._gateway = gateway
        self._headers = HeadersOf(protocol)

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Errors: any `GatewayError`; `BadRequest` has the status that ends the search (RFC 9110, section 15.5.22)."""
        settings = self._gateway.settings.server
        if not settings.websockets or "compat.outlet" not in environ:
            raise BadRequest("WebSockets are not served here: send POST /v1/responses.", status=426, headers=(("upgrade", "HTTP/1.1"),))
        client = read_origin(self._gateway, environ, self._headers)["client"]
        socket = WebSocket(environ, settings.max_body_bytes, self._gateway.offload)
        return Answer(Session(self._gateway, self, dict(environ), socket, client).run(), socket.headers, 101)

    def call(self, create: Create, environ: dict[str, Any]) -> Call:
        """The call that a message asks for. Errors: as of any call."""
        origin = read_origin(self._gateway, environ, self._headers)
        envelope = create.envelope
        if self._gateway.responses.is_on:  # stored here, and nowhere else
            envelope = Envelope(envelope.replaced({"store": b"false"}))
        return call_from(self.protocol, envelope, **origin)


class Session:
    """What goes on over one connection. Mutable: what the client may go on from.

    It keeps the gateway that it began with, so it ends where another one has taken its place: the client opens the next there.
    """

    def __init__(self, gateway: Gateway, door: SocketDoor, environ: dict[str, Any], socket: WebSocket, client: str) -> None:
        self._gateway = gateway
        self._door = door
        self._protocol = door.protocol
        self._environ = environ
        self._socket = socket
        self._outlet = environ["compat.outlet"]
        self._changes = gateway.following.changes
        most_bytes, store = gateway.settings.server.max_body_bytes, gateway.responses
        self._memory = Memory(most_bytes, partial(history, store, client, most_bytes=most_bytes) if store.is_on else None)

    def run(self) -> Iterator[bytes]:
        """Serve the connection to its end; all but the first bytes go out by themselves."""
        yield self._socket.begin()
        code, reason = CloseCode.GOING_AWAY, "The gateway is shutting down, or has changed."
        try:
            while (message := self._next_message()) is not None:
                self._outlet.is_busy = True
                self._answer(message)
                if self._is_over:
                    return
        except ClientGone:
            return
        except TimeoutError:
            code, reason = CloseCode.NORMAL_CLOSURE, "Nothing was asked for a long time."
        finally:
            self._socket.close(code, reason)

    @property
    def _is_over(self) -> bool:
        gateway = self._gateway
        return gateway.gauges.is_draining or self._outlet.is_leaving or gateway.following.changes != self._changes

    def _next_message(self) -> bytes | None:
        """The next one; `None` when none is to be served. Errors: `TimeoutError` when the connection was idle too long, `ClientGone`."""
        self._outlet.is_busy = False
        clock = self._gateway.clock.monotonic
        deadline_s = clock() + self._door.idle_s
        while True:
            try:
                return self._socket.receive(min(self._door.ping_s, self._door.idle_s))
            except TimeoutError:
                if clock() > deadline_s:
                    raise
                if self._is_over:
                    return None
                self._socket.ping()

    def _answer(self, message: bytes) -> None:
        """One call. Errors: `ClientGone`."""
        environ = {**self._environ, REQUEST_ID: self._gateway.clock.new_id()}
        create: Create | None = None
        try:
            envelope = self._gateway.offload.run(message, lambda: client_envelope(message))
            create = self._gateway.offload.run(message, lambda: read_create(envelope, self._memory))
            self._serve(create, environ)
        except GatewayError as error:
            error.forget_frames()
            self._refuse(error, create)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001  # the error boundary, as in `attach_boundary`
            self._refuse(fault_of(self._gateway, environ[REQUEST_ID], error), create)

    def _refuse(self, error: GatewayError, create: Create | None) -> None:
        answer = error_body(error, protocol=self._protocol)
        assert isinstance(answer.body, bytes)
        stream_id = create.stream_id if create is not None else ""
        self._socket.send([error_message(answer.status, answer.body, answer.headers, stream_id)])

    def _serve(self, create: Create, environ: dict[str, Any]) -> None:
        """Errors: any `GatewayError` before the first event, `ClientGone`."""
        messages = AnswerMessages(create.stream_id)
        try:
            call = self._door.call(create, environ)
            if create.generates:
                run = CallRun(self._gateway, call)
                self._send_all(self._kept(run, create), run, messages)
            else:
                answer_id = self._protocol.answer_id(self._gateway.clock.new_id())
                self._socket.send(messages.of(warmed_up(answer_id, call.model, int(self._gateway.clock.now()))))
        finally:
            if messages.answer_id:
                self._memory.keep(messages.answer_id, (*create.items, *messages.items))
            else:
                self._memory.forget(create.wish.previous)

    def _kept(self, run: CallRun, create: Create) -> Frames:
        """The answer's frames, on their way to the store where there is one."""
        gateway = self._gateway
        if not gateway.responses.is_on:
            return run.frames()
        return KeptAnswer(run.frames(), run, kept_for(gateway, run.call.client, create.wish, self._protocol).frames)

    def _send_all(self, frames: Frames, run: CallRun, messages: AnswerMessages) -> None:
        try:
            while True:
                with self._socket:
                    frame = next(frames)
                if frame == self._protocol.heartbeat:
                    self._socket.ping()
                else:
                    self._socket.send(messages.of(frame))
        except StopIteration:
            return
        except (GatewayError, ClientGone):
            raise
        except Exception as error:  # a fault of ours within the answer
            if not run.bytes_out:
                raise
            self._socket.send(messages.of(run.error_frame(fault_of(self._gateway, run.call.request_id, error))))
        finally:
            frames.close()
