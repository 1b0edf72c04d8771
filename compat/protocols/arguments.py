"""Arguments of a tool call in a history, for an upstream that wants an object, and for one that wants the text.

They keep the bytes that the model wrote, or else prompt caches and thinking that is bound to them are lost.
"""

from __future__ import annotations

from typing import Any

import msgspec

from compat import jsonio
from compat.protocols.notes import Notes
from compat.protocols.request import ToolCall
from compat.wire.envelope import repaired

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def arguments_object(call: ToolCall, notes: Notes) -> Any:
    """A dictionary, or `msgspec.Raw` of a JSON object. Whatever is not an object is wrapped into one, with a note."""
    arguments = call.arguments
    if arguments is None or (isinstance(arguments, str) and (not arguments or arguments.isspace())):
        return {}
    if isinstance(arguments, dict):
        return arguments
    if isinstance(arguments, msgspec.Raw):
        return _checked(bytes(arguments), notes)
    if not isinstance(arguments, str):
        notes.add("wrapped", "arguments")
        return {"value": arguments}
    written = arguments.strip().encode("utf-8", "surrogatepass")
    text = repaired(written)
    if text != written:
        notes.add("repaired", "surrogates")
    return _checked(text, notes, arguments)


def arguments_text(call: ToolCall) -> str:
    """The JSON text of the arguments, as the model wrote it where the client sent that; an empty object where there are none."""
    arguments = call.arguments
    if isinstance(arguments, str):
        return arguments if arguments and not arguments.isspace() else "{}"
    if arguments is None:
        return "{}"
    return str(bytes(arguments) if isinstance(arguments, msgspec.Raw) else jsonio.encode(arguments), "utf-8")


def _checked(text: bytes, notes: Notes, written: str | None = None) -> Any:
    try:
        _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        notes.add("wrapped", "arguments")
        return {"arguments": written} if written is not None else {"value": msgspec.Raw(text)}
    return msgspec.Raw(text)
