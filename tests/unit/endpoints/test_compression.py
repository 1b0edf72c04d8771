"""Compressed answers and compressed bodies: what a client gets for what it accepts, and how much a few bytes can cost."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import Any

import brotli
import flask
import pytest
from backports import zstd

from compat.endpoints.compression import MAX_FRAMES, MIN_SIZE_BYTES, attach_compression, decoded_body
from compat.errors import BadRequest, BodyTooLarge, GatewayError, WrongMediaType

DECODERS: dict[str, Any] = {"zstd": zstd.decompress, "br": brotli.decompress, "gzip": gzip.decompress, "": bytes}
ENCODERS: dict[str, Any] = {"gzip": lambda data: gzip.compress(data, mtime=0), "zstd": zstd.compress}
MB = 2**20


@pytest.fixture
def client() -> Any:
    app = flask.Flask("test")
    attach_compression(app)

    @app.get("/json/<int:size>")
    def json(size: int) -> flask.Response:
        return flask.Response(
            b'"' + b"a" * (size - 2) + b'"', content_type="application/json", status=int(flask.request.args.get("status", 200))
        )

    @app.get("/stream")
    def stream() -> flask.Response:
        return flask.Response(iter([b"data: 1\n\n"] * 300), content_type="text/event-stream; charset=utf-8")

    @app.get("/events")
    def events() -> flask.Response:
        return flask.Response(b"data: 1\n\n" * 300, content_type="text/event-stream")

    return app.test_client()


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("zstd, br, gzip", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("gzip", "gzip"),
        ("br;q=0.5, gzip;q=0.9", "gzip"),
        ("*", "zstd"),
        ("", ""),
        ("identity", ""),
        ("deflate", ""),
        ("gzip;q=0", ""),
        ("zstd;q=0, br; q=0.0, gzip", "gzip"),
        ("*;q=0", ""),
        ("zstd;q=0, *;q=0.5", "br"),
        ("*, ZSTD ; Q=0.0, br;q=0", "gzip"),
        ("zstd;q=0, br;q=0, gzip;q=0, *", ""),
        ("br; q=0.2, gzip; q=0.8", "gzip"),
        ("gzip;Q=0", ""),
        ("nonsense;;;,,q=", ""),
    ],
)
def test_json_is_compressed_as_the_client_likes_it_best(client: Any, accepted: str, encoding: str) -> None:
    answer = client.get(f"/json/{MIN_SIZE_BYTES}", headers={"accept-encoding": accepted})
    assert answer.headers.get("content-encoding", "") == encoding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert len(DECODERS[encoding](answer.data)) == MIN_SIZE_BYTES
    assert int(answer.headers["content-length"]) == len(answer.data)


@pytest.mark.parametrize("path", [f"/json/{MIN_SIZE_BYTES - 1}", "/json/5000?status=400", "/json/5000?status=503"])
def test_small_answers_and_errors_are_left_as_they_are(client: Any, path: str) -> None:
    answer = client.get(path, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/stream", "/events"])
def test_an_event_stream_is_never_touched(client: Any, path: str) -> None:
    answer = client.get(path, headers={"accept-encoding": "zstd, br, gzip"})
    assert "content-encoding" not in answer.headers
    assert "vary" not in answer.headers
    assert answer.data == b"data: 1\n\n" * 300


def test_frames_leave_one_by_one(client: Any) -> None:
    frames = client.get("/stream", headers={"accept-encoding": "gzip"}).iter_encoded()
    assert next(frames) == b"data: 1\n\n"


# Bodies.


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "zstd", " GZip ", "ZSTD"])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"a": 1}' * 100_000], ids=len)
def test_a_compressed_body_is_what_it_was(name: str, body: bytes) -> None:
    assert decoded_body(name, ENCODERS[name.strip().lower().removeprefix("x-")](body), MB) == body


@pytest.mark.parametrize("name", ["", "identity", " Identity "])
def test_a_plain_body_passes(name: str) -> None:
    assert decoded_body(name, b"{}", 1) == b"{}"


@pytest.mark.parametrize("name", ENCODERS)
def test_a_body_in_several_parts_is_their_sum(name: str) -> None:
    encode = ENCODERS[name]
    assert decoded_body(name, encode(b"a") + encode(b"") + encode(b"bc"), MB) == b"abc"


def test_a_part_that_holds_no_data_is_passed_over() -> None:
    assert decoded_body("zstd", b"\x50\x2a\x4d\x18\x04\0\0\0user" + zstd.compress(b"{}"), MB) == b"{}"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("gzip", b""),
        ("gzip", b"\x1f\x8b"),
        ("gzip", b"{}"),
        ("gzip", gzip.compress(b"a", mtime=0)[:-1]),
        ("gzip", gzip.compress(b"a", mtime=0) + b"junk"),
        ("gzip", gzip.compress(b"a", mtime=0)[:-8] + b"\0" * 8),
        ("gzip", gzip.compress(b"", mtime=0) * (MAX_FRAMES + 1)),
        ("zstd", b""),
        ("zstd", b"{}"),
        ("zstd", zstd.compress(b"a" * 100)[:-1]),
        ("zstd", zstd.compress(b"a") + b"junk"),
        ("zstd", zstd.compress(b"") * (MAX_FRAMES + 1)),
    ],
)
def test_a_broken_body_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(BadRequest, match=f"The body is not valid {name}: "):
        decoded_body(name, data, MB)


def test_a_frame_that_wants_a_huge_window_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    with pytest.raises(BadRequest, match="too much memory"):
        decoded_body("zstd", compressor.compress(b"{}") + compressor.flush(), 32 * MB)


@pytest.mark.parametrize("name", ["br", "deflate", "gzip, zstd", "compress", "\x1b[31m" + "a" * 200])
def test_another_encoding_is_not_supported(name: str) -> None:
    with pytest.raises(WrongMediaType) as caught:
        decoded_body(name, b"", MB)
    assert caught.value.status == 415
    assert len(caught.value.message) < 120
    assert "\x1b" not in caught.value.message
    assert caught.value.headers == (("accept-encoding", "zstd, gzip"),)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("over", "fits"), [(0, True), (1, False)])
def test_the_cap_is_exact(name: str, over: int, fits: bool) -> None:
    data = ENCODERS[name](b"a" * (MB + over))
    if fits:
        assert len(decoded_body(name, data, MB)) == MB
    else:
        with pytest.raises(BodyTooLarge):
            decoded_body(name, data, MB)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_largest_body_that_is_allowed_fits(name: str) -> None:
    body = bytes(32 * MB)
    assert decoded_body(name, ENCODERS[name](body), 32 * MB) == body


@pytest.mark.parametrize("name", ENCODERS)
def test_a_bomb_costs_no_more_memory_than_the_cap(name: str) -> None:
    bomb = ENCODERS[name](bytes(100 * MB))
    bombs = bomb * 3
    tracemalloc.start()
    try:
        with pytest.raises(GatewayError) as caught:
            decoded_body(name, bombs, MB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(caught.value, BodyTooLarge)
    assert caught.value.status == 413
    assert peak < 4 * MB
