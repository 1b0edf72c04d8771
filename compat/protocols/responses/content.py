"""Blocks as content parts of the Responses API: text, images, files.

A block that has no counterpart is an error that names the client's place: content never vanishes. A part is written the same whatever
follows it (rule 27 of docs/translation.md); cache breakpoints are put on afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from compat.errors import Unsupported
from compat.protocols.media import IMAGE_TYPES
from compat.protocols.notes import Notes
from compat.protocols.request import Block as Neutral
from compat.protocols.request import Document, Image, Text, Unknown
from compat.protocols.responses.parts import API

Part: TypeAlias = dict[str, Any]
_DETAILS = frozenset({"low", "high", "auto", "original"})
_MAX_NAME = 500


def input_text(text: str) -> Part:
    """Words of anybody but the model."""
    return {"type": "input_text", "text": text}


def input_part(block: Neutral, notes: Notes) -> Part | None:
    """The block, which is the caller's own; `None` for text without words. Errors: `Unsupported`."""
    if isinstance(block, Text):
        return None if block.text.isspace() else input_text(block.text)
    return _WRITERS[type(block)](block, notes)


def _image(image: Image, notes: Notes) -> Part:
    if image.origin == API:
        return {**image.value}
    detail = image.detail
    if detail and detail not in _DETAILS:
        notes.add("dropped", "detail")
        detail = ""
    part: Part = {"type": "input_image", "detail": detail or "auto"}
    if image.data and image.media_type not in IMAGE_TYPES:
        raise Unsupported(f"{image.where}: images must be PNG, JPEG, GIF or WebP, not '{image.media_type[:50]}'.", param=image.where)
    if image.data:
        return {**part, "image_url": f"data:{image.media_type};base64,{image.data}"}
    if not image.url:
        raise Unsupported(f"{image.where}: an image must hold its data; file ids of another service can't be used.", param=image.where)
    return {**part, "image_url": image.url}


def _document(document: Document, _: Notes) -> Part:
    if document.origin == API:
        return {**document.value}
    name = document.name[:_MAX_NAME]
    if document.text:
        return input_text(f"File {name}:\n\n{document.text}" if name else document.text)
    if document.url:
        return {"type": "input_file", "file_url": document.url}
    if not document.data:
        raise Unsupported(
            f"{document.where}: a file must hold its 'file_data'; file ids of another service can't be used.", param=document.where
        )
    media_type = document.media_type or "application/octet-stream"
    return {"type": "input_file", "filename": name or "file", "file_data": f"data:{media_type};base64,{document.data}"}


def _unknown(block: Unknown, _: Notes) -> Part:
    if block.origin == API:
        return {**block.value}
    raise Unsupported(f"{block.where}: content of type '{block.what[:50]}' is not supported by this model.", param=block.where)


_WRITERS: Mapping[type[Neutral], Callable[[Any, Notes], Part]] = {Image: _image, Document: _document, Unknown: _unknown}
