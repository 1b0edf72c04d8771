"""Content parts of OpenAI's messages as blocks: text, images, files.

Clients send more than OpenAI documents: the AI SDK's and MCP's parts, Anthropic's blocks, parts of the Responses API, lists that are
written as a JSON string. What no block can say is `Unknown`: content never vanishes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from compat import jsonio
from compat.errors import BadRequest, Unsupported
from compat.protocols.chat.chunks import API
from compat.protocols.marks import mark_of
from compat.protocols.media import block_with_source, data_of, file_of, is_data_url, is_web_address, pasted
from compat.protocols.request import Block, CacheMark, Document, Image, Text, Thinking, Unknown
from compat.wire.extent import check_values

_REASONING = frozenset({"thinking", "redacted_thinking", "reasoning"})
_TEXTS = frozenset({"text", "input_text", "output_text"})
_MEDIA_PART = re.compile(r'"type"\s*:\s*"(?:image|media|file|document)')


def text_blocks(content: Any, where: str) -> list[Block]:
    """The blocks of a content of parts that can be text only: text and refusals, and what an assistant thought.

    Errors: `BadRequest`, `Unsupported`.
    """
    if content is None:
        return []
    blocks: list[Block] = []
    for place, part in _parts(content, where):
        kind = part["type"]
        if kind in _REASONING:
            blocks.append(_thinking(part, place))
        elif kind in _TEXTS:
            blocks += _text(part.get("text"), part, place)
        elif kind == "refusal":
            blocks += _text(part.get("refusal"), part, place, is_refusal=True)
        else:
            raise Unsupported(f"{place}: a part of type '{kind[:50]}' is not allowed here.", param=place)
    return blocks


def content_blocks(content: Any, where: str) -> list[Block]:
    """The blocks of a user's content or a tool's result. Errors: `BadRequest`, `Unsupported`."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(where, content)] if content else []
    blocks: list[Block] = []
    for place, part in _parts(content, where):
        kind = part["type"]
        if kind in _TEXTS:
            blocks += _text(part.get("text"), part, place)
        else:
            blocks.append(_READERS.get(kind, _unknown)(part, place, mark_of(part)))
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


def _parts(content: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(content, list):
        raise BadRequest(f"{where} must be a string or a list of parts.", param=where)
    for number, part in enumerate(content):
        place = f"{where}[{number}]"
        if isinstance(part, str):
            part = {"type": "text", "text": part}  # noqa: PLW2901  # LangChain and others write text parts as bare strings
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise BadRequest(f"{place} must be an object with a type.", param=place)
        yield place, part


def _text(text: Any, part: dict[str, Any], place: str, *, is_refusal: bool = False) -> tuple[Text, ...]:
    if not isinstance(text, str):
        raise BadRequest(f"{place}.text must be a string.", param=place)
    return (Text(place, text, mark_of(part), is_refusal),) if text else ()


def _thinking(part: dict[str, Any], place: str) -> Thinking:
    words, seal = (next((part[key] for key in keys if isinstance(part.get(key), str)), "") for keys in _THINKING_KEYS)
    return Thinking(place, words, seal, origin=API, value=part)


_THINKING_KEYS = (("thinking", "text"), ("signature", "data"))


def _unknown(part: dict[str, Any], place: str, cache: CacheMark | None) -> Unknown:
    return Unknown(place, API, part["type"], part, cache)


def _image(part: dict[str, Any], place: str, cache: CacheMark | None) -> Image | Document:
    image = part.get("image_url")
    url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, None)
    if not isinstance(url, str) or not url:
        raise BadRequest(f"{place}.image_url.url must be a string.", param=place)
    detail = "" if detail is None or detail == "auto" else str(detail)
    if is_web_address(url):
        return Image(place, url=url, detail=detail, cache=cache)
    label, data = data_of(url, place)
    return pasted(label, data, place, cache, detail)


def _own(part: dict[str, Any], place: str, cache: CacheMark | None) -> Block:
    """A block in Anthropic's words, or one of MCP's: `{"type": "image", "data": ..., "mimeType": ...}`."""
    return block_with_source(part, place, cache) if isinstance(part.get("source"), dict) else _media(part, place, cache)


def _media(part: dict[str, Any], place: str, cache: CacheMark | None) -> Block:
    """Bytes in base64 with a label beside them, or an address, as the AI SDK writes them."""
    data, url = part.get("data"), part.get("url")
    name = _name_in(part)
    if isinstance(data, str):
        label = next((part[key] for key in ("mediaType", "mimeType", "media_type") if isinstance(part.get(key), str)), "")
        data = data if is_data_url(data) else f"data:{label};base64,{data}"
        return file_of(data, name, place, cache)
    if not isinstance(url, str):
        return _unknown(part, place, cache)
    if part["type"] == "file-url":
        return _file({"file_data": url, "filename": name}, place, cache)
    return _image({"image_url": url}, place, cache)


def _file(part: dict[str, Any], place: str, cache: CacheMark | None) -> Image | Document:
    file = part.get("file")
    fields = file if isinstance(file, dict) else part
    data, file_id = fields.get("file_data"), fields.get("file_id")
    if isinstance(data, str) and data:
        return file_of(data, _name_in(fields), place, cache)
    if isinstance(file_id, str) and file_id:
        return Document(place, file_id=file_id, name=_name_in(fields), cache=cache)
    raise Unsupported(f"{place}: a file must hold its 'file_data'; file ids of another service can't be used.", param=place)


def _name_in(fields: Mapping[str, Any]) -> str:
    name = fields.get("filename")
    return name if isinstance(name, str) else ""


_READERS: Mapping[str, Callable[[dict[str, Any], str, CacheMark | None], Block]] = {
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
