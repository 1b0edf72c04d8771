"""Content parts of OpenAI messages as content blocks of Anthropic's: text, images, files.

Media types are taken from the bytes, not from the label (docs/translation.md, rule 22); URLs are handed on, never fetched. A part
that has no counterpart is an error that names it: content never vanishes. Blank text is left out (rule 14), a cache marker stays on its
block (rule 15).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from compat import jsonio
from compat.errors import BadRequest, Unsupported
from compat.protocols.notes import Notes
from compat.wire.extent import check_values

Block: TypeAlias = dict[str, Any]

_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_REASONING = frozenset({"thinking", "redacted_thinking", "reasoning"})
_TEXTS = frozenset({"text", "input_text", "output_text"})
_WEB = re.compile(r"https?://", re.IGNORECASE)
_MEDIA_PART = re.compile(r'"type"\s*:\s*"(?:image|media|file|document)')
_SNIFF_CHARS = 64
_WINDOW_BYTES = 256 * 1024
_ESCAPE_BYTES = 3
_BLANK = b" \t\n\v\f\r"
_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"%PDF-"), "application/pdf"),
)


def text_block(text: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": text}


def is_blank(text: str) -> bool:
    """Whether there is nothing to be read in `text`. Unlike `strip` this copies nothing."""
    return not text or text.isspace()


def marker_of(carrier: Mapping[str, Any]) -> Block | None:
    """The cache marker that an object carries, cleaned; `ttl` is kept where it is one of the API's."""
    marker = carrier.get("cache_control")
    if not isinstance(marker, dict) or marker.get("type") != "ephemeral":
        return None
    ttl = marker.get("ttl")
    return {"type": "ephemeral", "ttl": ttl} if ttl in ("5m", "1h") else {"type": "ephemeral"}


def mark_last(blocks: list[Block], carrier: Mapping[str, Any]) -> None:
    """Put the marker of a message on the last of the blocks that it became."""
    marker = marker_of(carrier)
    if marker is not None and blocks:
        blocks[-1]["cache_control"] = marker


def text_blocks(content: Any, where: str, notes: Notes) -> list[Block]:
    """The blocks of a content that can hold text only (a string, or text and refusal parts). Errors: `BadRequest`, `Unsupported`.

    Reasoning among an assistant's parts is left out: it has no signature that this upstream would take.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [] if is_blank(content) else [text_block(content)]
    blocks = []
    for place, part in _parts(content, where):
        if part["type"] in _REASONING:
            notes.add("thinking", "omitted")
            continue
        if part["type"] in _TEXTS:
            text = part.get("text")
        elif part["type"] == "refusal":
            text = part.get("refusal")
        else:
            raise Unsupported(f"{place}: a part of type '{part['type'][:50]}' is not allowed here.", param=place)
        blocks += _marked_text(text, part, place)
    return blocks


def content_blocks(content: Any, where: str, notes: Notes) -> list[Block]:
    """The blocks of a user's content or a tool's result. Errors: `BadRequest`, `Unsupported`."""
    if content is None:
        return []
    if isinstance(content, str):
        return [] if is_blank(content) else [text_block(content)]
    blocks: list[Block] = []
    for place, part in _parts(content, where):
        kind = part["type"]
        if kind in _TEXTS:
            blocks += _marked_text(part.get("text"), part, place)
            continue
        reader = _READERS.get(kind)
        if reader is None:
            raise Unsupported(f"{place}: content of type '{kind[:50]}' is not supported by this model.", param=place)
        block = reader(part, place, notes)
        marker = marker_of(part)
        blocks.append(block if marker is None else {**block, "cache_control": marker})
    return blocks


def parts_in(text: str) -> list[Any] | None:
    """Content parts that a client wrote as a JSON string, when there is more than text among them.

    Kilo Code does so with the results of tools, and what its tools give it are parts of the AI SDK and of MCP servers.
    """
    if not text.startswith("[") or _MEDIA_PART.search(text) is None:
        return None
    try:
        written = text.encode("utf-8", "surrogatepass")
        check_values(written)
        value = jsonio.decode(written)
    except BadRequest:
        return None
    kinds = [part.get("type") if isinstance(part, dict) else None for part in value]
    is_known = all(isinstance(kind, str) and (kind == "text" or kind in _READERS) for kind in kinds)
    return value if is_known and any(kind != "text" for kind in kinds) else None


def _parts(content: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(content, list):
        raise BadRequest(f"{where} must be a string or a list of parts.", param=where)
    parts = []
    for number, part in enumerate(content):
        place = f"{where}[{number}]"
        if isinstance(part, str):
            part = {"type": "text", "text": part}  # noqa: PLW2901  # LangChain and others write text parts as bare strings
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise BadRequest(f"{place} must be an object with a type.", param=place)
        parts.append((place, part))
    return parts


def _marked_text(text: Any, part: dict[str, Any], place: str) -> list[Block]:
    if not isinstance(text, str):
        raise BadRequest(f"{place}.text must be a string.", param=place)
    if is_blank(text):
        return []
    block = text_block(text)
    mark_last([block], part)
    return [block]


def _image(part: dict[str, Any], place: str, notes: Notes) -> Block:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(image, dict) and image.get("detail") not in (None, "auto"):
        notes.add("dropped", "detail")
    if not isinstance(url, str) or not url:
        raise BadRequest(f"{place}.image_url.url must be a string.", param=place)
    if _WEB.match(url):
        return {"type": "image", "source": _at(url)}
    label, data = _data_of(url, place)
    return _pasted(label, data, place)


def _pasted(label: str, data: str, place: str) -> Block:
    media_type = _sniffed(data, place) or label
    if media_type == "application/pdf":
        return _pdf(data, None)
    if media_type not in _IMAGE_TYPES:
        raise Unsupported(f"{place}: images must be PNG, JPEG, GIF or WebP, not '{media_type[:50]}'.", param=place)
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _own(part: dict[str, Any], place: str, notes: Notes) -> Block:
    """A block of the upstream's own protocol, or one of MCP's: `{"type": "image", "data": ..., "mimeType": ...}`."""
    source = part.get("source")
    if not isinstance(source, dict):
        return _media(part, place, notes)
    block = {key: value for key, value in part.items() if key != "cache_control"}
    if part["type"] == "image" and source.get("type") == "base64" and isinstance(source.get("data"), str):
        block |= _pasted(str(source.get("media_type")), _base64(source["data"], place), place)
    return block


def _media(part: dict[str, Any], place: str, notes: Notes) -> Block:
    """Bytes in base64 with a label beside them, or an address, as the AI SDK writes them."""
    data, url = part.get("data"), part.get("url")
    name = part.get("filename")
    if isinstance(data, str):
        label = next((part[key] for key in ("mediaType", "mimeType", "media_type") if isinstance(part.get(key), str)), "")
        return _file({"file_data": data if data[:5].lower() == "data:" else f"data:{label};base64,{data}", "filename": name}, place, notes)
    if not isinstance(url, str):
        raise Unsupported(f"{place}: content of type '{part['type'][:50]}' is not supported by this model.", param=place)
    if part["type"] == "file-url":
        return _file({"file_data": url, "filename": name}, place, notes)
    return _image({"image_url": url}, place, notes)


def _file(part: dict[str, Any], place: str, _: Notes) -> Block:
    file = part.get("file") if isinstance(part.get("file"), dict) else part
    assert isinstance(file, dict)
    data = file.get("file_data")
    if not isinstance(data, str) or not data:
        raise Unsupported(f"{place}: a file must hold its 'file_data'; file ids of another service can't be used.", param=place)
    name = file.get("filename") if isinstance(file.get("filename"), str) else None
    if _WEB.match(data):
        return _titled({"type": "document", "source": _at(data)}, name)
    label, encoded = _data_of(data, place) if data[:5].lower() == "data:" else ("", _base64(data, place))
    media_type = _sniffed(encoded, place) or label
    if media_type == "application/pdf":
        return _pdf(encoded, name)
    if media_type in _IMAGE_TYPES:
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": encoded}}
    if media_type.startswith("text/"):
        text = _decoded_text(encoded, place)
        return _titled({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}, name)
    raise Unsupported(f"{place}: files must be PDF, text or images, not '{media_type[:50] or 'of an unknown type'}'.", param=place)


def _pdf(data: str, name: str | None) -> Block:
    return _titled({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}, name)


def _titled(block: Block, name: str | None) -> Block:
    return {**block, "title": name[:500]} if name else block


def _at(url: str) -> Block:
    """An address as a source; the API wants its scheme in lower case."""
    scheme, _, rest = url.partition(":")
    return {"type": "url", "url": f"{scheme.lower()}:{rest}"}


def _data_of(url: str, place: str) -> tuple[str, str]:
    """Media type and base64 text of a data URL (RFC 2397)."""
    comma = url.find(",")
    if comma < 0 or url[:5].lower() != "data:":
        raise BadRequest(f"{place} must hold an http(s) URL or a data URL.", param=place)
    head = url[5:comma]
    if head[-7:].lower() != ";base64":
        raise Unsupported(f"{place}: a data URL must be in base64.", param=place)
    label = head[: head.index(";")].lower()
    return "image/jpeg" if label == "image/jpg" else label, _base64(url[comma + 1 :], place)


def _base64(data: str, place: str) -> str:
    """Base64 as the API takes it: without line ends and escapes of a URL, with its padding."""
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


def _sniffed(data: str, place: str) -> str:
    """The media type by the first bytes, or nothing. `BadRequest` where they are not base64."""
    head = data[:_SNIFF_CHARS]
    try:
        first = binascii.a2b_base64(head[: len(head) // 4 * 4].encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError) as error:
        raise BadRequest(f"{place} holds data that is not base64.", param=place) from error
    if not first:
        raise BadRequest(f"{place} holds no data.", param=place)
    return next((media_type for magic, media_type in _MAGIC if magic.match(first)), "")


def _decoded_text(data: str, place: str) -> str:
    try:
        text = binascii.a2b_base64(data.encode("ascii")).decode("utf-8")
    except (ValueError, UnicodeEncodeError) as error:
        raise BadRequest(f"{place} holds text that is not UTF-8 in base64.", param=place) from error
    if is_blank(text):
        raise BadRequest(f"{place} holds no text.", param=place)
    return text


_READERS: Mapping[str, Callable[[dict[str, Any], str, Notes], Block]] = {
    "image_url": _image,
    "input_image": _image,
    "file": _file,
    "input_file": _file,
    "image": _own,
    "document": _own,
    "media": _media,
    "image-data": _media,
    "image-url": _media,
    "file-data": _media,
    "file-url": _media,
}
