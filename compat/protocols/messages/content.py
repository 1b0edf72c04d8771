"""Blocks as content blocks of Anthropic's: text, images, files.

A block that has no counterpart is an error that names the client's place: content never vanishes. Blank text is left out, a cache mark
stays on its block (docs/translation.md, rules 14 and 15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from compat.errors import Unsupported
from compat.protocols.marks import marker
from compat.protocols.media import IMAGE_TYPES, PDF
from compat.protocols.messages.shapes import API
from compat.protocols.notes import Notes
from compat.protocols.request import Block as Neutral
from compat.protocols.request import CacheMark, Document, Image, Text, Unknown

Block: TypeAlias = dict[str, Any]
_MAX_TITLE = 500


def text_block(text: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": text}


def is_blank(text: str) -> bool:
    """Whether there is nothing to be read in `text`. Unlike `strip` this copies nothing."""
    return not text or text.isspace()


def mark_last(blocks: list[Block], mark: CacheMark | None) -> None:
    """Put the mark of a message on the last of the blocks that it became."""
    if mark is not None and blocks:
        blocks[-1]["cache_control"] = marker(mark)


def content_block(block: Neutral, notes: Notes) -> Block | None:
    """The block, which is the caller's own; `None` for text without words. Errors: `Unsupported`."""
    if isinstance(block, Text):
        if is_blank(block.text):
            return None
        written = text_block(block.text)
    else:
        written = _WRITERS[type(block)](block, notes)
    mark = block.cache  # type: ignore[union-attr]  # those that are here have one
    if mark is not None:
        written["cache_control"] = marker(mark)
    return written


def _image(image: Image, notes: Notes) -> Block:
    if image.detail:
        notes.add("dropped", "detail")
    if image.data and image.media_type not in IMAGE_TYPES:
        raise Unsupported(f"{image.where}: images must be PNG, JPEG, GIF or WebP, not '{image.media_type[:50]}'.", param=image.where)
    if image.origin == API:
        return {**image.value}
    if image.url:
        return {"type": "image", "source": _at(image.url)}
    if not image.data:
        raise Unsupported(f"{image.where}: an image must hold its data; file ids of another service can't be used.", param=image.where)
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}


def _document(document: Document, _: Notes) -> Block:
    place = document.where
    if document.origin == API:
        return {**document.value}
    source: Block
    if document.url:
        source = _at(document.url)
    elif document.text:
        source = {"type": "text", "media_type": "text/plain", "data": document.text}
    elif document.data and document.media_type == PDF:
        source = {"type": "base64", "media_type": PDF, "data": document.data}
    elif document.data:
        media_type = document.media_type[:50] or "of an unknown type"
        raise Unsupported(f"{place}: files must be PDF, text or images, not '{media_type}'.", param=place)
    else:
        raise Unsupported(f"{place}: a file must hold its 'file_data'; file ids of another service can't be used.", param=place)
    title = {"title": document.name[:_MAX_TITLE]} if document.name else {}
    return {"type": "document", "source": source, **title}


def _unknown(block: Unknown, _: Notes) -> Block:
    if block.origin == API:
        return {**block.value}
    raise Unsupported(f"{block.where}: content of type '{block.what[:50]}' is not supported by this model.", param=block.where)


def _at(url: str) -> Block:
    """An address as a source; the API wants its scheme in lower case."""
    scheme, _, rest = url.partition(":")
    return {"type": "url", "url": f"{scheme.lower()}:{rest}"}


_WRITERS: Mapping[type[Neutral], Callable[[Any, Notes], Block]] = {Image: _image, Document: _document, Unknown: _unknown}
