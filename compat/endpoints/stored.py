"""Answers of the Responses API that are stored: made and gone on from at `POST /v1/responses`, read, cancelled and deleted below it.

Each client has its own, and there are none of others for it. Where nothing is stored none is found, in OpenAI's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flask
import gevent

from compat import jsonio
from compat.calls.gateway import Gateway
from compat.calls.kept import going_on, kept_for
from compat.endpoints.answers import Answer, json_body
from compat.endpoints.background import BackgroundAnswer
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import SSE_HEADERS, HeadersOf, read_origin
from compat.endpoints.doors import Door
from compat.endpoints.hangup import ClientWatch, WatchedFrames
from compat.errors import BadRequest, GatewayError
from compat.protocols.client_protocol import Identity
from compat.protocols.responses.client import RESPONSES
from compat.protocols.responses.client_errors import error_end
from compat.protocols.responses.shown import replayed
from compat.protocols.responses.state import (
    changed,
    later,
    listed,
    listing_of,
    not_found,
    starting_after,
    wish_of,
)
from compat.stored.base import UNFINISHED, Record
from compat.wire.envelope import Envelope
from compat.wire.sse import KEEP_ALIVE

LOOK_S = 0.1
_CANCEL_S = 5.0
"""How long a client waits at most until an answer that it cancels has ended."""
_ABANDONED = {"code": "server_error", "message": "The gateway that made this response has ended."}


class _Asked(NamedTuple):
    """Whose answer is asked for, and how its stream is to look."""

    client: str
    answer_id: str
    query: Mapping[str, str]


class StoringDoor(Door):
    """The door of the Responses API where answers are stored."""

    def __call__(self, environ: dict[str, Any], client: str | None = None) -> Answer:
        """See `Door`."""
        gateway = self._gateway
        origin = read_origin(gateway, environ, self._headers, client)
        envelope = read_envelope(environ, gateway.settings.server, gateway.offload)
        wish = gateway.offload.run(envelope.body, lambda: wish_of(envelope))
        if not (wish.stores or wish.previous):
            return self.answer(envelope, origin, environ)
        asked = going_on(gateway, origin["client"], wish, envelope)
        if not wish.is_background:
            return self.answer(asked, origin, environ, kept_for(gateway, origin["client"], wish, self.protocol))
        call = self.call(Envelope(asked.replaced({"stream": b"true"})), origin)
        made = BackgroundAnswer(gateway, call, wish)
        made.start()
        if not wish.is_stream:
            return json_body(made.body)
        return _followed(gateway, _Asked(call.client, made.answer_id, {}), made.body, environ)


def storing_doors(gateway: Gateway) -> Mapping[str, Door]:
    """Path -> the door there, for answers that are stored; none where nothing is."""
    return {path: StoringDoor(gateway, RESPONSES) for path in RESPONSES.paths} if gateway.responses.is_on else {}


def stored_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoints over `gateway`."""
    blueprint = flask.Blueprint("stored", __name__)
    headers_of = HeadersOf(RESPONSES)

    def view(answer: Callable[[Gateway, _Asked], Answer]) -> Callable[[str], flask.Response]:
        def answered(response_id: str) -> flask.Response:
            request = flask.request
            client = read_origin(gateway, request.environ, headers_of)["client"]
            if not gateway.responses.is_on:
                raise not_found(response_id)
            return answer(gateway, _Asked(client, response_id, request.args)).response()

        return answered

    for path, method, answer in (
        ("", "GET", _shown),
        ("", "DELETE", _deleted),
        ("/input_items", "GET", _items),
        ("/cancel", "POST", _cancelled),
    ):
        blueprint.add_url_rule(f"/v1/responses/<response_id>{path}", answer.__name__.strip("_"), view(answer), methods=[method])
    return blueprint


def _found(gateway: Gateway, asked: _Asked) -> Record:
    """The record. One whose maker is gone has failed. Errors: `NotFound`, `StoreUnavailable`."""
    found = gateway.responses.find(asked.client, asked.answer_id)
    if found is None:
        raise not_found(asked.answer_id)
    record = found.record
    if record.status in UNFINISHED and not found.is_being_made(gateway.clock.now()):
        return record.ended("failed", changed(record.body, {"status": "failed", "error": _ABANDONED}))
    return record


def _shown(gateway: Gateway, asked: _Asked) -> Answer:
    record = _found(gateway, asked)
    if asked.query.get("stream") != "true":
        return json_body(record.body)
    if record.has_frames:
        return _followed(gateway, asked, record.body, flask.request.environ)
    if record.status in UNFINISHED:
        raise BadRequest("Only a background response that was created with stream=true can be streamed.", param="stream")
    return Answer(later(replayed(record.body), starting_after(asked.query)), [*SSE_HEADERS])


def _followed(gateway: Gateway, asked: _Asked, body: bytes, environ: dict[str, Any]) -> Answer:
    """The stream of an answer that may still be made; `body` is its object as it is now."""
    frames = _ended_in_order(_frames(gateway, asked, starting_after(asked.query)), body)
    return Answer(WatchedFrames(KEEP_ALIVE, frames, ClientWatch(environ)), [*SSE_HEADERS])


def _ended_in_order(frames: Iterator[bytes], body: bytes) -> Iterator[bytes]:
    """The frames; where the answer is deleted meanwhile, or its store fails, the last one says so."""
    try:
        yield from frames
    except GatewayError as error:
        response = jsonio.decode(body)
        yield error_end(error, Identity(response["id"], response["created_at"], response["model"]))


def _frames(gateway: Gateway, asked: _Asked, after: int) -> Iterator[bytes]:
    number, silent_s = 0, 0.0
    while True:
        is_over = _found(gateway, asked).status not in UNFINISHED
        parts = gateway.responses.frames(asked.client, asked.answer_id, number)
        number += len(parts)
        silent_s = 0.0 if parts else silent_s + LOOK_S
        if frames := later(b"".join(parts), after):
            yield frames
        elif silent_s > gateway.settings.server.heartbeat_s:
            silent_s = 0.0
            yield KEEP_ALIVE
        if is_over:
            return
        gevent.sleep(LOOK_S)


def _deleted(gateway: Gateway, asked: _Asked) -> Answer:
    if not gateway.responses.delete(asked.client, asked.answer_id):
        raise not_found(asked.answer_id)
    return json_body(jsonio.encode({"id": asked.answer_id, "object": "response", "deleted": True}))


def _items(gateway: Gateway, asked: _Asked) -> Answer:
    wanted = listing_of(asked.query)
    return json_body(listed(asked.answer_id, _found(gateway, asked).items, wanted))


def _cancelled(gateway: Gateway, asked: _Asked) -> Answer:
    """An answer that is over stays as it is: cancelling it is no error."""
    record = _found(gateway, asked)
    if not record.is_background:
        raise BadRequest("Cannot cancel a synchronous response.")
    if record.status not in UNFINISHED:
        return json_body(record.body)
    gateway.responses.cancel(asked.client, asked.answer_id)
    until_s = gateway.clock.monotonic() + _CANCEL_S
    while record.status in UNFINISHED and gateway.clock.monotonic() < until_s:
        gevent.sleep(LOOK_S)
        record = _found(gateway, asked)
    return json_body(record.body)
