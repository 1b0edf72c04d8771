"""Images and files in a client's request: what they are by their bytes, and as base64 that any upstream takes.

Media types are taken from the bytes, not from the label (docs/translation.md, rule 22); addresses are handed on, never fetched.

    data_of(url, place)           -> label and base64 of a data URL
    base64_of(data, place)        -> base64 without line ends and escapes of a URL, with its padding
    pasted(label, data, place)    -> an image, or the PDF that was pasted as one
    file_of(data, name, place)    -> whatever a file holds
    block_with_source(...)        -> an image or a document in Anthropic's words
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Any

from compat.errors import BadRequest, Unsupported
from compat.protocols.request import CacheMark, Document, Image

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Those that every model with eyes takes."""
PDF = "application/pdf"

_SOURCES = "anthropic.messages"
_WEB = re.compile(r"https?://", re.IGNORECASE)
_SNIFF_CHARS = 64
_WINDOW_BYTES = 256 * 1024
_ESCAPE_BYTES = 3
_BLANK = b" \t\n\v\f\r"
_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"%PDF-"), PDF),
)


def is_web_address(url: str) -> bool:
    """Whether an upstream could fetch it."""
    return _WEB.match(url) is not None


def is_data_url(text: str) -> bool:
    """Whether it holds the data itself."""
    return text[:5].lower() == "data:"


def pasted(label: str, data: str, place: str, cache: CacheMark | None, detail: str = "") -> Image | Document:
    """What a client pasted as an image: some paste PDFs. `data` is base64. Errors: `BadRequest`."""
    media_type = sniffed(data, place) or label
    if media_type == PDF:
        return Document(place, PDF, data=data, cache=cache)
    return Image(place, media_type, data, detail=detail, cache=cache)


def file_of(data: str, name: str, place: str, cache: CacheMark | None) -> Image | Document:
    """A file by its address, its data URL, or its base64. Errors: `BadRequest`, `Unsupported`."""
    if is_web_address(data):
        return Document(place, url=data, name=name, cache=cache)
    label, encoded = data_of(data, place) if is_data_url(data) else ("", base64_of(data, place))
    media_type = sniffed(encoded, place) or label
    if media_type in IMAGE_TYPES:
        return Image(place, media_type, encoded, cache=cache)
    if media_type.startswith("text/"):
        return Document(place, media_type, decoded_text(encoded, place), name=name, cache=cache)
    return Document(place, media_type, data=encoded, name=name, cache=cache)


def block_with_source(block: Mapping[str, Any], place: str, cache: CacheMark | None) -> Image | Document:
    """An image or a document with a `source`, as Anthropic's protocol has them. Errors: `BadRequest`."""
    own = {key: value for key, value in block.items() if key != "cache_control"}
    source = own["source"]
    kind, data, url, file_id = (source.get(key) for key in ("type", "data", "url", "file_id"))
    media_type = str(source.get("media_type") or "")
    place_of = {"url": url if isinstance(url, str) else "", "file_id": file_id if isinstance(file_id, str) else ""}
    if own["type"] == "document":
        name, is_text = own.get("title"), kind == "text"
        data = data if isinstance(data, str) else ""
        return Document(
            place,
            media_type,
            text=data if is_text else "",
            data="" if is_text else data,
            name=name if isinstance(name, str) else "",
            cache=cache,
            origin=_SOURCES,
            value=own,
            **place_of,
        )
    if kind != "base64" or not isinstance(data, str):
        return Image(place, cache=cache, origin=_SOURCES, value=own, **place_of)
    data = base64_of(data, place)
    media_type = sniffed(data, place) or media_type
    own |= {"source": {"type": "base64", "media_type": media_type, "data": data}}
    if media_type == PDF:
        return Document(place, PDF, data=data, cache=cache, origin=_SOURCES, value=own | {"type": "document"})
    return Image(place, media_type, data, cache=cache, origin=_SOURCES, value=own)


def data_of(url: str, place: str) -> tuple[str, str]:
    """Media type and base64 text of a data URL (RFC 2397). Errors: `BadRequest`, `Unsupported`."""
    comma = url.find(",")
    if comma < 0 or not is_data_url(url):
        raise BadRequest(f"{place} must hold an http(s) URL or a data URL.", param=place)
    head = url[5:comma]
    if head[-7:].lower() != ";base64":
        raise Unsupported(f"{place}: a data URL must be in base64.", param=place)
    label = head[: head.index(";")].lower()
    return "image/jpeg" if label == "image/jpg" else label, base64_of(url[comma + 1 :], place)


def base64_of(data: str, place: str) -> str:
    """Base64 as every upstream takes it: without line ends and escapes of a URL, with its padding. Errors: `BadRequest`."""
    try:
        text = data.encode("ascii").translate(None, _BLANK)
        if b"%" in text:
            text = _unescaped(text).translate(None, _BLANK)
            data = str(text, "ascii")
        elif len(text) < len(data):
            data = str(text, "ascii")
    except ValueError as error:
        raise BadRequest(f"{place} holds data that is not base64.", param=place) from error
    lacking = -len(data) % 4
    if lacking == 3:
        raise BadRequest(f"{place} holds data that is not base64.", param=place)
    return data + "=" * lacking if lacking else data


def _unescaped(text: bytes) -> bytes:
    """`text`, which holds no white space, without the escapes of a URL. `ValueError` where one is broken.

    They are those of quoted-printable (RFC 2045, section 6.7) but for their mark, and Python undoes these at the speed of C. A window at a
    time, for nothing else runs meanwhile.
    """
    parts: list[bytes] = []
    start = 0
    while start < len(text):
        end = min(start + _WINDOW_BYTES, len(text))
        mark = text.rfind(b"%", max(end - _ESCAPE_BYTES + 1, start + 1), end)
        if mark >= 0 and end < len(text):
            end = mark  # an escape stays whole
        window = text[start:end]
        parts.append(binascii.a2b_qp(window.replace(b"=", b"=3D").replace(b"%", b"=")))
        if len(window) - len(parts[-1]) != (_ESCAPE_BYTES - 1) * window.count(b"%"):
            raise ValueError("an escape without two hexadecimal digits")
        start = end
    return b"".join(parts)


def sniffed(data: str, place: str) -> str:
    """The media type by the first bytes, or nothing. `BadRequest` where they are not base64."""
    head = data[:_SNIFF_CHARS]
    try:
        first = binascii.a2b_base64(head[: len(head) // 4 * 4].encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError) as error:
        raise BadRequest(f"{place} holds data that is not base64.", param=place) from error
    if not first:
        raise BadRequest(f"{place} holds no data.", param=place)
    return next((media_type for magic, media_type in _MAGIC if magic.match(first)), "")


def decoded_text(data: str, place: str) -> str:
    """The text that base64 holds. Errors: `BadRequest`."""
    try:
        text = binascii.a2b_base64(data.encode("ascii")).decode("utf-8")
    except (ValueError, UnicodeEncodeError) as error:
        raise BadRequest(f"{place} holds text that is not UTF-8 in base64.", param=place) from error
    if not text or text.isspace():
        raise BadRequest(f"{place} holds no text.", param=place)
    return text
