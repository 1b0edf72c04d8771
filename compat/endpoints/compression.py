"""Compression of answers by Flask-Compress, and of request bodies.

Answers: JSON (and the pages) from 1 kB on, in the encoding the client likes best. An event stream passes untouched: Flask-Compress doesn't
flush what it compresses, so that events would be held back.

Bodies: gzip (RFC 1952) and zstd (RFC 8878), never more than the cap in memory, however much a few bytes claim to stand for.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import flask
from flask_compress import Compress

from compat.errors import BadRequest, BodyTooLarge, WrongMediaType

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIN_SIZE_BYTES = 1024
MAX_FRAMES = 1000
"""Members of one gzip body, frames of a zstd one: a body of nothing but empty ones would keep the processor busy."""

_WINDOW_BYTES = 64 * 1024
_MIN_WINDOW_LOG = 23  # 8 MB: what every decoder of the content encoding `zstd` takes (RFC 9659)
_ALGORITHMS = ("zstd", "br", "gzip")
_REFUSED = re.compile(r";q=0(?:\.0*)?$")
_EVENT_STREAM = "text/event-stream"
_GZIP = zlib.MAX_WBITS + 16  # with gzip's header


class _Decoder(Protocol):
    """One member or frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Compression(Compress):
    """Flask-Compress, less what it has no business with: streams, and encodings that the client refuses (`;q=0`)."""

    def after_request(self, response: flask.Response | None) -> flask.Response:
        """Compress `response` where that is wanted."""
        if response is None or response.is_streamed or response.mimetype == _EVENT_STREAM:
            return response if response is not None else flask.Response(status=204)
        environ = flask.request.environ
        accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
        if ";" in accepted:
            environ["HTTP_ACCEPT_ENCODING"] = _plainly(accepted)
        return super().after_request(response)


def _plainly(accepted: str) -> str:
    """An `Accept-Encoding` (RFC 9110, section 12.5.3) as Flask-Compress reads it aright.

    Without spaces and what is refused, and with the names that are not in it for `*`.
    """
    rows = [part.partition(";") for part in "".join(accepted.split()).lower().split(",")]
    named = {name for name, _, _ in rows}
    others = [name for name in _ALGORITHMS if name not in named]
    parts = [f"{name}{mark}{weight}" for named_so, mark, weight in rows for name in (others if named_so == "*" else [named_so])]
    return ",".join(part for part in parts if not _REFUSED.search(part))


def attach_compression(app: flask.Flask) -> None:
    """Let answers of `app` be compressed."""
    app.config.update(
        COMPRESS_MIMETYPES=["application/json", "text/html", "text/css", "text/javascript", "text/plain", "image/svg+xml"],
        COMPRESS_MIN_SIZE=MIN_SIZE_BYTES,
        COMPRESS_STREAMS=False,
        COMPRESS_ALGORITHM=list(_ALGORITHMS),
        COMPRESS_LEVEL=5,
        COMPRESS_ZSTD_LEVEL=3,
        COMPRESS_BR_LEVEL=4,
    )
    _Compression(app)


def check_encoding(encoding: str) -> None:
    """`WrongMediaType` for a content encoding that `decoded_body` can't undo."""
    name = encoding.strip().lower()
    if name not in {"", "identity", "gzip", "x-gzip", "zstd"}:
        shown = "".join(character for character in name[:40] if " " <= character <= "~")
        words = f"The body's Content-Encoding '{shown}' is not supported; gzip and zstd are."
        raise WrongMediaType(words, headers=(("accept-encoding", "zstd, gzip"),))


def decoded_body(encoding: str, data: bytes, max_bytes: int) -> bytes:
    """The body that `data` is in the content encoding `encoding`. Errors: `BadRequest`, `BodyTooLarge`, `WrongMediaType`."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return data
    check_encoding(encoding)
    make_decoder = _zstd_decoder if name == "zstd" else _gzip_decoder
    try:
        body = _decode(data, max_bytes + 1, make_decoder)
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise BadRequest(f"The body is not valid {name}: {error}.") from error
    if len(body) > max_bytes:
        raise BodyTooLarge(f"The decoded body has more than {max_bytes} bytes, the limit (server.max_body_bytes).")
    return body


def _decode(data: bytes, max_bytes: int, make_decoder: Callable[[int], _Decoder]) -> bytes:
    """At most `max_bytes` of what `data` stands for. Errors: `EOFError`, those of the decoder."""
    parts: list[bytes] = []
    position = 0
    for _ in range(MAX_FRAMES):
        decoder = make_decoder(max_bytes)
        while not decoder.eof:
            if position >= len(data):
                raise EOFError("it ends early")
            parts.append(decoder.decompress(data[position : position + _WINDOW_BYTES], max_bytes))
            position += _WINDOW_BYTES
            max_bytes -= len(parts[-1])
            if max_bytes <= 0:
                return b"".join(parts)
        position = min(position, len(data)) - len(decoder.unused_data)  # which is copied: of a window it is short
        if position >= len(data):
            return b"".join(parts)
    raise EOFError(f"it has more than {MAX_FRAMES} parts")


def _gzip_decoder(_max_bytes: int) -> _Decoder:
    return zlib.decompressobj(wbits=_GZIP)


def _zstd_decoder(max_bytes: int) -> _Decoder:
    """A frame that wants more memory than its decoded size may be, but for small ones, is refused."""
    return zstd.ZstdDecompressor(options={int(zstd.DecompressionParameter.window_log_max): max(_MIN_WINDOW_LOG, max_bytes.bit_length())})
