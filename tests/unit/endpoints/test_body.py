"""Reading a body: its type, its size, its time."""

from __future__ import annotations

import io
from typing import Any

import gevent.event
import pytest

from compat.config.sections import ServerSettings
from compat.endpoints.body import read_json_body
from compat.errors import BadRequest, BodyTooLarge, GatewayError, RequestTimeout, WrongMediaType

SMALL = ServerSettings(max_body_bytes=10)


def read(body: bytes = b"{}", settings: ServerSettings = SMALL, **environ: str) -> bytes:
    whole = {"CONTENT_TYPE": "application/json", "wsgi.input": io.BytesIO(body), **environ}
    return read_json_body(whole, settings)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff\x00", b"x" * 10])
def test_the_bytes_are_read_as_they_are(body: bytes) -> None:
    assert read(body) == body
    assert read(body, CONTENT_LENGTH=str(len(body))) == body


@pytest.mark.parametrize(
    "environ",
    [
        {"CONTENT_TYPE": "application/json; charset=utf-8"},
        {"CONTENT_TYPE": " Application/JSON ;x"},
        {"CONTENT_TYPE": "application/json", "HTTP_ORIGIN": "http://localhost"},
        {"CONTENT_TYPE": ""},
        {"HTTP_CONTENT_ENCODING": ""},
        {"HTTP_CONTENT_ENCODING": " Identity"},
    ],
)
def test_json_is_taken(environ: dict[str, str]) -> None:
    assert read(b"{}", **environ) == b"{}"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CONTENT_TYPE": "text/plain"}, "not 'text/plain'"),
        ({"CONTENT_TYPE": "application/x-www-form-urlencoded"}, "Content-Type: application/json"),
        ({"CONTENT_TYPE": "multipart/form-data; boundary=x"}, "not 'multipart/form-data'"),
        ({"CONTENT_TYPE": "application/jsonp"}, "not 'application/jsonp'"),
        ({"CONTENT_TYPE": "", "HTTP_ORIGIN": "http://localhost"}, "not ''"),
        ({"CONTENT_TYPE": "text/plain", "HTTP_ORIGIN": "http://localhost"}, "not 'text/plain'"),
        ({"HTTP_CONTENT_ENCODING": "br"}, "'br'"),
        ({"HTTP_CONTENT_ENCODING": "br, gzip"}, "'br, gzip'"),
    ],
)
def test_anything_else_is_refused_before_it_is_read(environ: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongMediaType, match=words):
        read_json_body({"CONTENT_TYPE": "application/json", **environ}, SMALL)


def test_a_type_is_repeated_within_bounds() -> None:
    with pytest.raises(WrongMediaType) as caught:
        read(CONTENT_TYPE="x" * 10_000)
    assert len(caught.value.message) < 300


def test_a_length_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(BodyTooLarge, match=r"has 11 bytes; the limit is 10 \(server\.max_body_bytes\)"):
        read_json_body({"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": "11"}, SMALL)


@pytest.mark.parametrize("environ", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "5"}])
def test_a_longer_body_than_was_told_is_refused_once_it_shows(environ: dict[str, str]) -> None:
    with pytest.raises(BodyTooLarge, match="more than 10 bytes"):
        read(b"x" * 11, **environ)


def test_a_body_that_ends_early_is_refused() -> None:
    with pytest.raises(BadRequest, match="ended before its Content-Length"):
        read(b"{", CONTENT_LENGTH="2")


@pytest.mark.parametrize(
    ("length", "error"),
    [*((length, BadRequest) for length in ("\xb2", "-1", "+2", "2, 2", "\u0662")), ("9" * 5000, BodyTooLarge)],
    ids=["superscript", "negative", "a sign", "two", "other digits", "5000 digits"],
)
def test_a_garbled_length_is_the_clients_error(length: str, error: type[GatewayError]) -> None:
    with pytest.raises(error) as caught:
        read(CONTENT_LENGTH=length)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("error", [OSError("unexpected end of file"), ValueError("bad chunk"), ConnectionResetError("gone")])
def test_a_broken_body_is_the_clients_error(error: Exception) -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise error

    with pytest.raises(BadRequest, match=f"could not be read: {error}"):
        read_json_body({"CONTENT_TYPE": "application/json", "wsgi.input": Broken()}, SMALL)


def test_a_body_that_does_not_arrive_is_a_timeout() -> None:
    class Silent:
        def read(self, size: int) -> bytes:
            gevent.event.Event().wait(20)
            raise AssertionError("nobody ended the wait")

    with pytest.raises(RequestTimeout, match=r"within 0\.01 s") as caught:
        read_json_body({"CONTENT_TYPE": "application/json", "wsgi.input": Silent()}, ServerSettings(body_timeout_s=0.01))
    assert caught.value.status == 408


def test_no_more_is_read_than_shows_that_it_is_too_much() -> None:
    body = io.BytesIO(b"x" * 1000)
    with pytest.raises(BodyTooLarge):
        read_json_body({"CONTENT_TYPE": "application/json", "wsgi.input": body}, SMALL)
    assert body.tell() == 11
