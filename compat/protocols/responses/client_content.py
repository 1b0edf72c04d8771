"""Parts of messages and outputs in the words of the Responses API as blocks: the client's half."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.media import data_of, file_of, is_web_address, pasted
from compat.protocols.request import Block, Document, Image, Text, Unknown
from compat.protocols.responses.parts import API


def blocks_of(content: Any, where: str) -> Iterator[Block]:
    """The blocks of a text or of a list of parts. Empty text is left out, and what is neither counts as what it is in JSON.
    Errors: `BadRequest`, `Unsupported`."""
    if content is None:
        return
    if not isinstance(content, list):
        text = content if isinstance(content, str) else str(jsonio.encode(content), "utf-8")
        if text:
            yield Text(where, text)
        return
    for number, part in enumerate(content):
        place = f"{where}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str):
            raise BadRequest(f"{place} must be an object with a type.", param=place)
        block = _READERS.get(kind, _unknown)(part, place)
        if block is not None:
            yield block


def thought_of(item: Mapping[str, Any]) -> str:
    """The words of a reasoning item, as far as it has any: those that were thought, else their summary."""
    for name in ("content", "summary"):
        parts = item.get(name)
        texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        if whole := "\n\n".join(text for text in texts if isinstance(text, str)):
            return whole
    return ""


def _text(part: Mapping[str, Any], place: str, key: str = "text") -> Block | None:
    words = part.get(key)
    if not isinstance(words, str):
        raise BadRequest(f"{place}.{key} must be a string.", param=f"{place}.{key}")
    return Text(place, words, is_refusal=key == "refusal") if words else None


def _refusal(part: Mapping[str, Any], place: str) -> Block | None:
    return _text(part, place, "refusal")


def _image(part: Mapping[str, Any], place: str) -> Block:
    url, file_id, detail = part.get("image_url"), part.get("file_id"), part.get("detail")
    detail = detail if isinstance(detail, str) and detail != "auto" else ""
    if isinstance(url, str) and url:
        if is_web_address(url):
            return Image(place, url=url, detail=detail)
        return pasted(*data_of(url, place), place, None, detail)
    if not isinstance(file_id, str) or not file_id:
        raise BadRequest(f"{place} must have an 'image_url' or a 'file_id'.", param=place)
    return Image(place, file_id=file_id, detail=detail)


def _file(part: Mapping[str, Any], place: str) -> Block:
    data, url, file_id, name = (part.get(key) for key in ("file_data", "file_url", "file_id", "filename"))
    name = name if isinstance(name, str) else ""
    if isinstance(data, str) and data:
        return file_of(data, name, place, None)
    if isinstance(url, str) and url:
        return Document(place, url=url, name=name)
    if not isinstance(file_id, str) or not file_id:
        raise BadRequest(f"{place} must have a 'file_data', a 'file_url' or a 'file_id'.", param=place)
    return Document(place, file_id=file_id, name=name)


def _unknown(part: Mapping[str, Any], place: str) -> Block:
    return Unknown(place, API, part["type"], part)


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Block | None]] = {
    **dict.fromkeys(("input_text", "output_text", "text", "summary_text", "reasoning_text"), _text),
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
}
